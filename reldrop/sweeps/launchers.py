"""Where the runs of a sweep take place: in this process, in several on this machine, or as jobs of SLURM."""

import importlib.util
import io
import logging
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from reldrop.utils.errors import ReldropError
from reldrop.utils.signals import Signals
from reldrop.utils.types import Count, Positive, Text, WholeNumber, checked

if TYPE_CHECKING:
    from reldrop.sweeps.sweep import Job

POLL_SECONDS = 0.2  # between looks at processes of this machine
QUEUE_SECONDS = (2.0, 30.0)  # between looks at the queue of SLURM, at first and later
RESULT_SECONDS = 15.0  # until a file that a job has written at its end is seen through a shared file system

logger = logging.getLogger("reldrop")


class Launcher(Protocol):
    """Trains the runs of a sweep.

    Attributes:
        waits: whether the runs are over when `run` returns.
        interrupted: what to say after a Ctrl-C.
    """

    waits: bool
    interrupted: str

    def run(self, jobs: Sequence["Job"], folder: Path) -> list[str | None]:
        """Train `jobs`, with files of its own in `folder`; return what there is to say of each, failures above all.

        Raises:
            ReldropError: if none of them can be started.
        """
        ...


@dataclass(frozen=True)
class Local:
    """One after another, in this process."""

    waits: ClassVar[bool] = True
    interrupted: ClassVar[str] = "the same command goes on from the last checkpoint"

    def run(self, jobs: Sequence["Job"], folder: Path) -> list[str | None]:
        return [job.train() for job in jobs]


@checked
@dataclass(frozen=True)
class Parallel:
    """Several at once, each in a process of its own, with a GPU, or its share of one, and its share of the cores.

    Args:
        jobs: runs at once; None for one on each GPU, or without GPUs one for every two cores.
    """

    waits: ClassVar[bool] = True
    interrupted: ClassVar[str] = Local.interrupted

    jobs: Count | None = None

    def run(self, jobs: Sequence["Job"], folder: Path) -> list[str | None]:
        gpus, cores = _gpus(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        at_once = min(self.jobs or len(gpus) or max(1, cores // 2), len(jobs))
        logs = folder / "parallel"
        logs.mkdir(parents=True, exist_ok=True)
        logger.info("%d at once; what they say goes to %s", at_once, logs)
        words: dict[str, str | None] = {}
        waiting, places = deque(jobs), deque(range(at_once))
        running: dict[int, tuple[subprocess.Popen[bytes], Job]] = {}
        try:
            with Signals() as signals:
                while waiting or running:
                    while waiting and places:
                        place, job = places.popleft(), waiting.popleft()
                        environment = {"OMP_NUM_THREADS": str(max(1, cores // at_once)), **os.environ}
                        if gpus:
                            environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
                        running[place] = (_start(job, logs / f"{job.label}.log", environment), job)
                    time.sleep(POLL_SECONDS)
                    for number in signals.received():
                        signals.hand_on(number)
                    for place in [place for place, (process, _) in running.items() if process.poll() is not None]:
                        process, job = running.pop(place)
                        places.append(place)
                        words[job.label] = _last_words(process.returncode, logs / f"{job.label}.log")
                        logger.info("%s: %s", job.label, words[job.label] or "finished")
        finally:
            for process, _ in running.values():
                process.terminate()  # they write a checkpoint
            for process, _ in running.values():
                process.wait()
        return [words[job.label] for job in jobs]


@checked
@dataclass(frozen=True)
class Slurm:
    """As jobs of SLURM, an array of them, by way of submitit; see conf/launcher/slurm.yaml for the settings.

    Raises:
        ReldropError: submitit or SLURM is not installed, or a setting is out of range.
    """

    _: KW_ONLY
    partition: Text | None = None
    account: Text | None = None
    constraint: Text | None = None
    nodes: Count = 1
    gpus: WholeNumber = 1
    tasks: Count | None = None
    cpus: Count = 8
    memory: Positive | None = None
    time: Count = 240
    signal_delay: WholeNumber = 120
    max_timeouts: WholeNumber = 100
    parallelism: Count = 64
    setup: Sequence[str] = ()
    sbatch: Mapping[str, Any] = field(default_factory=dict)
    wait: bool = True
    executor: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        if self.executor == "local" and self.nodes * self._tasks > 1:
            raise ReldropError("executor=local has one process for a run; set launcher.nodes=1 launcher.tasks=1")
        if self.signal_delay >= 60 * self.time:
            raise ReldropError(f"signal_delay={self.signal_delay} seconds leave nothing of {self.time} minutes")
        if importlib.util.find_spec("submitit") is None:
            raise ReldropError('launcher=slurm needs submitit; install it with pip install "reldrop[slurm]"')
        if self.executor == "slurm" and not all(map(shutil.which, ("sbatch", "srun", "squeue"))):
            raise ReldropError(
                "launcher=slurm needs the commands sbatch, srun and squeue, which are not here; start the sweep on a log-in "
                "node of the cluster, or take launcher=parallel"
            )

    @property
    def waits(self) -> bool:
        return self.wait

    @property
    def interrupted(self) -> str:
        if self.executor == "local":
            return Local.interrupted
        return "the jobs go on: `squeue --me` shows them, `scancel JOB` ends one"

    def run(self, jobs: Sequence["Job"], folder: Path) -> list[str | None]:
        own = folder / "slurm" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
        submitted = self._submit(jobs, own)
        logger.info("submitted as %s; what the runs say goes to %s", _ids(submitted), own)
        if not self.wait:
            return [f"job {job.job_id}" for job in submitted]
        self._await(submitted)
        deadline = time.monotonic() + RESULT_SECONDS
        return [_result(job, deadline) for job in submitted]

    @property
    def _tasks(self) -> int:
        return self.tasks or max(1, self.gpus)

    def _submit(self, jobs: Sequence["Job"], folder: Path) -> list[Any]:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # A signal in the moment before Python has a handler would end the job for good; now SLURM will do so, and requeue it.
        python = shlex.join(["bash", "-c", 'trap "" USR2; exec "$0" "$@"', sys.executable])
        executor = submitit.AutoExecutor(
            folder / "%j",
            cluster=self.executor,
            slurm_max_num_timeout=self.max_timeouts,
            slurm_python=python,
            local_max_num_timeout=self.max_timeouts,
        )
        shell = list(self.setup) or None
        # srun does not take the cores over from sbatch; and where one process ends in an error, the others would wait for it.
        srun = [f"--cpus-per-task={self.cpus}", "--kill-on-bad-exit=1"]
        try:
            executor.update_parameters(
                name=jobs[0].cfg["name"],
                timeout_min=self.time,
                nodes=self.nodes,
                tasks_per_node=self._tasks,
                cpus_per_task=self.cpus,
                gpus_per_node=self.gpus or None,
                mem_gb=self.memory,
                stderr_to_stdout=True,
                slurm_partition=self.partition,
                slurm_account=self.account,
                slurm_constraint=self.constraint,
                slurm_signal_delay_s=self.signal_delay,
                slurm_array_parallelism=self.parallelism,
                slurm_additional_parameters={"requeue": True, **self.sbatch},
                slurm_srun_args=srun,
                slurm_setup=shell,
                local_setup=shell,
            )
            with redirect_stderr(io.StringIO()):  # what sbatch says comes with the error as well
                return executor.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # others may lie there
                folder.parent.rmdir()
            raise ReldropError(
                f"SLURM does not take the jobs: {_reason(error)}; check the settings of launcher"
            ) from error

    def _await(self, submitted: Sequence[Any]) -> None:
        """Wait until all jobs have left the queue: one that has died leaves no result to wait for."""
        queued = self._queued(submitted)
        started = time.monotonic()
        while queued:
            first, later = (POLL_SECONDS,) * 2 if self.executor == "local" else QUEUE_SECONDS
            time.sleep(min(later, max(first, (time.monotonic() - started) / 10)))
            still = self._queued(submitted)
            if len(still) < len(queued):
                logger.info("%d of %d jobs are over", len(submitted) - len(still), len(submitted))
            queued = still

    def _queued(self, submitted: Sequence[Any]) -> set[str]:
        if self.executor == "local":
            return {job.job_id for job in submitted if not job.done()}
        everything = {job.job_id for job in submitted}
        done = subprocess.run(
            ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={_ids(submitted)}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return everything & set(done.stdout.split())
        return set() if "Invalid job id" in done.stderr else everything  # else, the controller is busy


def _gpus() -> list[str]:
    """Return what this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(index) for index in range(count)]


def _start(job: "Job", log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that trains `job` and ends with code 1 and a line of text if it fails."""
    command = [sys.executable, "-c", "import pickle, sys; sys.exit(pickle.load(sys.stdin.buffer)())"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
        )
    with process.stdin as pipe:
        pipe.write(pickle.dumps(job))
    return process


def _last_words(code: int, log: Path) -> str | None:
    if code == 0:
        return None
    if code != 1:
        return f"ended with code {code}, see {log}"
    return (log.read_text(errors="replace").strip().splitlines() or [f"ended with code {code}"])[-1]


def _ids(submitted: Sequence[Any]) -> str:
    return ",".join(dict.fromkeys(job.job_id.split("_")[0] for job in submitted))


def _reason(error: Exception) -> str:
    """Return the last thing that sbatch said."""
    said = re.findall(r"^sbatch: (?:error|fatal): (.*)$", str(error), re.MULTILINE)
    return (said or str(error).strip().splitlines())[-1]


def _result(job: Any, deadline: float) -> str | None:
    """Return what the first process of a job that is over has returned."""
    first = job.task(0)
    while not first.paths.result_pickle.exists():
        if time.monotonic() > deadline:
            return f"ended without a result, see {first.paths.stdout}"
        time.sleep(POLL_SECONDS)
    return first.result() if first.exception() is None else f"ended in an error, see {first.paths.stdout}"

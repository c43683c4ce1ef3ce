"""Runs of a sweep as jobs of SLURM, by way of submitit."""

import importlib.util
import io
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from reldrop.runs.run import JOB_FILE
from reldrop.sweeps.job import Job
from reldrop.sweeps.local import POLL_SECONDS, Local
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_text_atomic
from reldrop.utils.types import Count, Positive, Text, WholeNumber, checked

QUEUE_SECONDS = (2.0, 30.0)  # between looks at the queue of SLURM, at first and later
RESULT_SECONDS = 15.0  # until a file that a job has written at its end is seen through a shared file system

logger = logging.getLogger("reldrop")


@checked
@dataclass(frozen=True)
class Slurm:
    """Submits the runs as an array of jobs; conf/launcher/slurm.yaml explains the settings, which are submitit's.

    Raises:
        ReldropError: submitit or SLURM is not installed, or a setting is out of range.
    """

    _: KW_ONLY
    nodes: Count = 1
    tasks_per_node: Count | None = None
    gpus_per_node: WholeNumber = 1
    cpus_per_task: Count = 8
    mem_gb: Positive | None = None
    timeout_min: Count = 240
    slurm_partition: Text | None = None
    slurm_account: Text | None = None
    slurm_constraint: Text | None = None
    slurm_signal_delay_s: WholeNumber = 120
    slurm_max_num_timeout: WholeNumber = 100
    slurm_array_parallelism: Count = 64
    slurm_setup: Sequence[str] = ()
    slurm_additional_parameters: Mapping[str, Any] | None = None
    wait: bool = True
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        if self.cluster == "local" and self.nodes * self._tasks > 1:
            raise ReldropError(
                "cluster=local has one process for a run; set launcher.nodes=1 launcher.tasks_per_node=1"
            )
        if self.slurm_signal_delay_s >= 60 * self.timeout_min:
            raise ReldropError(
                f"slurm_signal_delay_s={self.slurm_signal_delay_s} must be below {60 * self.timeout_min} seconds, which is "
                f"timeout_min={self.timeout_min}"
            )
        self.check_installed()

    def check_installed(self) -> None:
        """Refuse to go on without submitit, or without the commands of SLURM."""
        if importlib.util.find_spec("submitit") is None:
            raise ReldropError('launcher=slurm needs submitit; install it with pip install "reldrop[slurm]"')
        if self.cluster == "slurm" and not all(map(shutil.which, ("sbatch", "srun", "squeue"))):
            raise ReldropError(
                "launcher=slurm needs the commands sbatch, srun and squeue, which are not here; start the sweep on a log-in "
                "node of a cluster, make one of this machine (scripts/slurm_one_node.sh up), or take launcher=local or parallel"
            )

    @property
    def waits(self) -> bool:
        return self.wait

    @property
    def interrupted(self) -> str:
        if self.cluster == "local":
            return Local.interrupted
        return "the jobs go on: `squeue --me` shows them, `scancel JOB` ends one"

    @property
    def _tasks(self) -> int:
        return self.tasks_per_node or max(1, self.gpus_per_node)

    def run(self, jobs: Sequence[Job], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        earlier = {job: file.read_text().strip() for job in jobs if (file := job.folder / JOB_FILE).exists()}
        queued = self._queued(earlier.values(), ())
        numbers = {job: number for job, number in earlier.items() if number in queued}
        if numbers:
            logger.info("%d runs have a job in the queue already, and get no second one", len(numbers))
        submitted = self._submit([job for job in jobs if job not in numbers], logs)
        numbers |= {job: each.job_id for job, each in submitted.items()}
        if not self.wait:
            return [f"job {numbers[job]}" for job in jobs]
        self._wait(list(numbers.values()), submitted.values())
        deadline = time.monotonic() + RESULT_SECONDS
        return [_failure(submitted[job], deadline) if job in submitted else None for job in jobs]

    def _submit(self, jobs: Sequence[Job], logs: Path) -> dict[Job, Any]:
        """Submit jobs; return submitit's object of each."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        if not jobs:
            return {}
        folder = logs / "slurm" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
        try:
            with redirect_stderr(io.StringIO()):  # what sbatch prints comes with the error as well
                submitted = dict(zip(jobs, self._executor(folder, jobs[0]).submit_array(jobs), strict=True))
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other sweeps have theirs there
                folder.parent.rmdir()
            raise ReldropError(
                f"SLURM does not take the jobs: {_reason(error)}; check the settings of launcher"
            ) from error
        arrays = _arrays(each.job_id for each in submitted.values())
        logger.info("submitted as %s; the output of the runs goes to %s", arrays, folder)
        if self.cluster == "slurm":
            for job, each in submitted.items():
                write_text_atomic(job.folder / JOB_FILE, f"{each.job_id}\n")
        return submitted

    def _executor(self, folder: Path, first: Job) -> Any:
        import submitit

        # A signal in the moment before Python has a handler would end the job for good; now SLURM will do so, and requeue it.
        python = shlex.join(["bash", "-c", 'trap "" USR2; exec "$0" "$@"', sys.executable])
        executor = submitit.AutoExecutor(
            folder / "%j",
            cluster=self.cluster,
            slurm_max_num_timeout=self.slurm_max_num_timeout,
            slurm_python=python,
            local_max_num_timeout=self.slurm_max_num_timeout,
        )
        settings = {
            **vars(self),  # they have submitit's names
            "tasks_per_node": self._tasks,
            "gpus_per_node": self.gpus_per_node or None,
            "slurm_additional_parameters": {"requeue": True, **(self.slurm_additional_parameters or {})},
            # srun does not inherit the cores from sbatch; and where one process ends in an error, the others would wait for it.
            "slurm_srun_args": [f"--cpus-per-task={self.cpus_per_task}", "--kill-on-bad-exit=1"],
            "slurm_setup": list(self.slurm_setup) or None,
            "local_setup": list(self.slurm_setup) or None,
        }
        for own in ("wait", "cluster", "slurm_max_num_timeout"):
            del settings[own]
        executor.update_parameters(name=first.folder.parts[-3], stderr_to_stdout=True, **settings)  # by the experiment
        return executor

    def _wait(self, numbers: Sequence[str], submitted: Collection[Any]) -> None:
        """Wait until all jobs have left the queue: one that has died leaves no result to wait for."""
        queued, started = self._queued(numbers, submitted), time.monotonic()
        first, later = (POLL_SECONDS,) * 2 if self.cluster == "local" else QUEUE_SECONDS
        while queued:
            time.sleep(min(later, max(first, (time.monotonic() - started) / 10)))
            before, queued = queued, self._queued(numbers, submitted)
            if len(queued) < len(before):
                logger.info("%d of %d jobs are over", len(numbers) - len(queued), len(numbers))

    def _queued(self, numbers: Collection[str], submitted: Collection[Any]) -> set[str]:
        """Return which jobs wait or run."""
        if self.cluster == "local":
            return {job.job_id for job in submitted if not job.done()}
        if not numbers:
            return set()
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={_arrays(numbers)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return {*numbers} & {*done.stdout.split()}
        return set() if "Invalid job id" in done.stderr else {*numbers}  # else, the controller is busy


def _arrays(numbers: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(number.split("_")[0] for number in numbers))


def _reason(error: Exception) -> str:
    """Return all errors of sbatch: the last one alone may say only that the submission failed."""
    lines = [line.removeprefix("sbatch: ") for line in str(error).splitlines() if line.strip()]
    errors = [line.partition(": ")[2] for line in lines if line.startswith(("error: ", "fatal: "))]
    return "; ".join(dict.fromkeys(errors or lines[-1:])) or "sbatch gives no reason"


def _failure(job: Any, deadline: float) -> str | None:
    """Return what the first process of a job that is over has returned."""
    first = job.task(0)
    while not first.paths.result_pickle.exists():
        if time.monotonic() > deadline:
            return f"ended without a result, see {first.paths.stdout}"
        time.sleep(POLL_SECONDS)
    return first.result() if first.exception() is None else f"ended in an error, see {first.paths.stdout}"

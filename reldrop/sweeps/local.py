"""Runs of a sweep on this machine: one after another in this process, or several at once."""

import logging
import os
import subprocess
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from reldrop.distributed.launch import abort, launched
from reldrop.sweeps.job import Job
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.machine import cores
from reldrop.utils.signals import Signals
from reldrop.utils.types import Count, checked

POLL_SECONDS = 0.2

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Local:
    """Trains one run after another, in this process."""

    waits: ClassVar[bool] = True
    interrupted: ClassVar[str] = "the same command goes on from the last checkpoint"

    def run(self, jobs: Sequence[Job], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        return [self._failure(job, train) for job in jobs]

    def _failure(self, job: Job, train: Callable[[Path], Any]) -> str | None:
        try:
            train(job.folder)
            return None
        except Exception as error:
            known = isinstance(error, ReldropError)
            message = str(error) if known else traceback.format_exc()
            if launched().processes > 1:  # the others wait for this one
                abort(f"error: {message}", known)
            logger.error("failed: %s", message)
            return message if known else f"{type(error).__name__}: {first_line(error)}"


@checked
@dataclass(frozen=True)
class Parallel:
    """Trains several runs at once, each in a process of its own, with a GPU, or its part of one, and its part of the cores.

    Args:
        jobs: runs at once; None for one on each GPU, or without GPUs one for every two cores.
    """

    waits: ClassVar[bool] = True
    interrupted: ClassVar[str] = Local.interrupted

    jobs: Count | None = None

    def run(self, jobs: Sequence[Job], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        slots = self._slots(len(jobs))
        logs = logs / "parallel"
        logs.mkdir(parents=True, exist_ok=True)
        logger.info("%d at once; their output goes to %s", len(slots), logs)
        failures: dict[Job, str | None] = {}
        waiting = deque(jobs)
        running: dict[Job, tuple[subprocess.Popen[bytes], dict[str, str]]] = {}
        try:
            with Signals() as signals:
                while waiting or running:
                    while waiting and slots:
                        job, slot = waiting.popleft(), slots.popleft()
                        with _log(job, logs).open("ab") as log:
                            environment = {**os.environ, **slot}
                            process = subprocess.Popen(job.command, stdout=log, stderr=log, env=environment)
                        running[job] = process, slot
                    time.sleep(POLL_SECONDS)
                    for number in signals.received():
                        signals.hand_on(number)
                    for job in [job for job, (process, _) in running.items() if process.poll() is not None]:
                        process, slot = running.pop(job)
                        slots.append(slot)
                        failures[job] = _failure(process.returncode, _log(job, logs))
                        logger.info("%s: %s", job.label, failures[job] or "finished")
        finally:
            for process, _ in running.values():
                process.terminate()  # they write a checkpoint
            for process, _ in running.values():
                process.wait()
        return [failures[job] for job in jobs]

    def _slots(self, runs: int) -> deque[dict[str, str]]:
        """Return the environment of each place for a run: its GPU, as CUDA_VISIBLE_DEVICES names it, and its threads."""
        import torch  # takes a second

        gpus = [str(index) for index in range(torch.cuda.device_count())]
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            gpus = visible.split(",")[: len(gpus)]
        count = min(self.jobs or len(gpus) or max(1, cores() // 2), runs)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // count)))
        slots = deque({"OMP_NUM_THREADS": threads} for _ in range(count))
        for index, slot in enumerate(slots if gpus else ()):
            slot["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        return slots


def _log(job: Job, logs: Path) -> Path:
    return logs / f"{job.label}.log"


def _failure(code: int, log: Path) -> str | None:
    if code == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines() if code == 1 else []
    return lines[-1].removeprefix("error: ") if lines else f"ended with code {code}, see {log}"

"""Hooks that interrupt a training at a given point."""

import signal
from typing import Any

from reldrop.data.base import Batch
from reldrop.training.hooks import Hook
from reldrop.training.trainer import Trainer


class FailBeforeStep(Hook):
    """Raises `error` after `step` steps of the run, before the next one."""

    def __init__(self, step: int | None, error: type[BaseException] = OSError) -> None:
        self.step, self.error = step, error

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if trainer.step == self.step:
            raise self.error("the power went")


class FailBeforeEvaluation(Hook):
    """Raises an error after `step` steps of the run, before they are evaluated."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_evaluation(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            raise OSError("the power went")


class TerminateInEvaluation(Hook):
    """Sends SIGTERM to this process while it evaluates."""

    def before_eval_batch(self, trainer: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

"""What the tests of sweeps put in the place of parts: as told by the environment, they take their time, fail, or tell."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import torch


class SGD(torch.optim.SGD):
    """torch's, which fails in step $FAIL_IN_STEP, and with $SECONDS_PER_STEP announces each step and sleeps after it."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == int(os.environ.get("FAIL_IN_STEP", 0)):
            raise OSError("the disk is full")
        result = super().step(closure)
        if "SECONDS_PER_STEP" in os.environ:
            print(f"step {self.steps}", flush=True)
            time.sleep(float(os.environ["SECONDS_PER_STEP"]))
        return result


@dataclass(frozen=True)
class Teller:
    """Stands for a job whose last line tells its GPU and threads, or which is killed."""

    label: str
    killed: bool = False

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", f"from {__name__} import tell; tell({self.killed})"]


def tell(killed: bool) -> NoReturn:
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)  # so that all run at once
    sys.exit(f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES')} threads {os.environ['OMP_NUM_THREADS']}")

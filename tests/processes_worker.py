"""Run by test_processes.py in several processes: trains one configuration after the other, perhaps until an error."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch
from test_train import config

from reldrop.loop import Loop
from reldrop.processes import disconnect
from reldrop.train import train

update = Loop._update


def train_until(step: int | None, folder: Path, overrides: list[str]) -> None:
    """Train; if `step` is given, the power goes before it, in all processes."""

    def fail_at(self: Loop, loss: torch.Tensor) -> None:
        if self.step == step:
            raise OSError("the power went")
        update(self, loss)

    Loop._update = fail_at
    try:
        with suppress(OSError):
            train(config(folder, *overrides))
    finally:
        Loop._update = update


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        train_until(job["step"], Path(job["folder"]), job["overrides"])
    disconnect()

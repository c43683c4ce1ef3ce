"""What scripts/benchmark.py times of the command: until the first training step, until a mistake is named, and for help."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

FIRST_STEP, MISTAKE, HELP = "first training step", "a misspelt key is named", "help"
# The command, which leaves at the end of its first step.
UNTIL_FIRST_STEP = """
import os
from reldrop.train import command
from reldrop.training.trainer import Trainer
step = Trainer.training_step
Trainer.training_step = lambda self, batch: (step(self, batch), os._exit(0))
command()
"""


def start_arms() -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return what is timed: the command on the embedded data, as a process of its own."""
    command = ["-m", "reldrop.train"]
    arms = {
        FIRST_STEP: partial(_run, ["-c", UNTIL_FIRST_STEP, "augmentation=reldrop_block"], 0),
        MISTAKE: partial(_run, [*command, "+augmentation.probabilty=1"], 1),
        HELP: partial(_run, [*command, "--help"], 0),
    }
    return arms, dict.fromkeys(arms, 1)


def _run(arguments: list[str], code: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = [] if arguments[-1] == "--help" else [f"results_dir={folder}"]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, *arguments, *words], capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode != code:
            raise RuntimeError(f"{arguments} ended with code {done.returncode}: {done.stderr}")

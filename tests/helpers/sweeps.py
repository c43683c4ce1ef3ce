"""Sweeps."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reldrop.runs.identity import run_folder
from tests.helpers.paths import ROOT
from tests.helpers.runs import LITTLE, QUICK, config

STEPS = [*QUICK, "optimizer._target_=tests.helpers.sweep_pieces.SGD", "optimizer.name=steps"]


GRID = ["augmentation=reldrop_block,none,random_erasing", "seed=0,1"]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def arguments(tmp_path: Path, *overrides: str) -> list[str]:
    return [f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}", *LITTLE, *overrides]


def start(
    tmp_path: Path, *overrides: str, launch: list[str] | None = None, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*(launch or [sys.executable]), "-m", "reldrop.train", *arguments(tmp_path, *overrides)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ENVIRONMENT, **environment},
    )


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for what a condition returns, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def said(folder: Path, text: str) -> re.Match[str] | None:
    """Return the place of `text`, a regular expression, in the logs of jobs in `folder`."""
    return re.search(text, "".join(path.read_text() for path in sorted(folder.rglob("*_log.out"))))


def folders(tmp_path: Path, *overrides: str) -> list[Path]:
    """Return the run folders of `GRID`, in its order."""
    arms = GRID[0].split("=")[1].split(",")
    runs = [[f"augmentation={arm}", f"seed={seed}"] for arm in arms for seed in (0, 1)]
    return [run_folder(config(tmp_path, *overrides, *run)) for run in runs]

"""Fixtures of this folder."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from reldrop.sweeps.outcomes import results
from reldrop.train import command
from tests.helpers.paths import TESTS
from tests.helpers.processes import BROKEN, CLOUDS, EQUAL, RESNET, STILL, launch
from tests.helpers.processes_worker import train_until
from tests.helpers.sweeps import ENVIRONMENT, arguments


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str]]:
    """The command in this process: what it exits with, and what it has said."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])

    def run(tmp_path: Path, *overrides: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments(tmp_path, *overrides)])
        results.clear()
        with pytest.raises(SystemExit) as stop:
            command()
        GlobalHydra.instance().clear()
        return stop.value.code, "".join(capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained all that the tests below compare: to start them takes longer than to train."""
    root = tmp_path_factory.mktemp("processes")
    jobs = [{"folder": str(root / "two" / name), "overrides": chosen, "step": None} for name, chosen in EQUAL.items()]
    own = [*RESNET, "trainer.sync_batchnorm=false"]
    for name, overrides, step in (
        ("own_norms", own, None),
        ("clouds", STILL, None),
        ("pointnet", [*CLOUDS, "trainer.eval_after_attribution=true"], None),
        ("two_then_one", BROKEN, 11),
        ("one_then_two", BROKEN, None),
    ):
        jobs.append({"folder": str(root / name), "overrides": overrides, "step": step})
    train_until(11, root / "one_then_two", BROKEN)
    (root / "jobs.json").write_text(json.dumps(jobs))
    done = launch(TESTS / "helpers" / "processes_worker.py", root / "jobs.json", root / "gradients.json")
    assert done.returncode == 0, done.stderr
    return root

"""One after another."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reldrop.reporting.status import status_table
from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder
from reldrop.sweeps.local import Local
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import QUICK, config
from tests.helpers.sweeps import GRID, folders

pytestmark = pytest.mark.slow


def test_a_failed_run_stays_alone_and_the_next_sweep_trains_what_is_missing(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]]
) -> None:
    grid = ["-m", *QUICK, *GRID]
    bad, *good = reversed(folders(tmp_path, *QUICK))
    bad.mkdir(parents=True)
    (bad / "last.pt").write_bytes(b"no checkpoint")
    code, text = sweep(tmp_path, *grid)
    assert code == 1
    assert "6 runs: 5 finished, 1 failed" in text
    assert re.search(rf"{bad.name} +failed +/.*last.pt is damaged", text)
    assert "is damaged" in (bad / "FAILED").read_text()
    accuracy = json.loads((good[0] / "summary.json").read_text())["test/top1"]
    assert re.search(rf"{good[0].name} +finished +test accuracy {accuracy:.2%}", text)

    (bad / "last.pt").unlink()
    stamps = [(folder / "last.pt").stat().st_mtime_ns for folder in good]
    code, text = sweep(tmp_path, *grid)
    assert code == 0
    assert "6 runs, of which 1 are to be trained" in text
    assert "6 runs: 5 already there, 1 finished" in text
    assert stamps == [(folder / "last.pt").stat().st_mtime_ns for folder in good]
    assert (bad / "summary.json").exists()
    assert not (bad / "FAILED").exists()

    code, text = sweep(tmp_path, *grid, "seed=4", "augmentation=none", "machine.progress=true,false")
    assert "1 runs: 1 finished" in text  # the same one twice


def test_a_damaged_result_is_named(tmp_path: Path, sweep: Callable[..., tuple[Any, str]]) -> None:
    sweep(tmp_path, "-m", *QUICK)
    summary = run_folder(config(tmp_path, *QUICK)) / "summary.json"
    whole = summary.read_text()
    summary.write_text(whole[:50])
    for words in (["-m", *QUICK], QUICK):
        code, _ = sweep(tmp_path, *words)
        assert re.match(rf"error: {summary} is damaged .*; delete it, and the same command writes it again", code)
    summary.unlink()
    sweep(tmp_path, "-m", *QUICK)
    assert summary.read_text() == whole


def test_force_starts_over_once(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the command that clears the folder: a job that comes back from the queue has to go on."""
    sweep(tmp_path, "-m", *QUICK)
    folder = run_folder(config(tmp_path, *QUICK))
    assert (folder / "last.pt").exists()
    given: list[Any] = []
    monkeypatch.setattr(Local, "run", lambda self, jobs, *_: given.extend(jobs) or [None] * len(jobs))
    sweep(tmp_path, "-m", *QUICK, "force=true")
    assert [job.folder for job in given] == [folder]
    assert not RunFolder(folder).config.force
    assert RunFolder(folder).state == "waiting"
    assert not (folder / "last.pt").exists()
    assert not (folder / "summary.json").exists()


@pytest.mark.parametrize("launcher", ["local", "parallel"])
def test_the_command_is_taken_down(tmp_path: Path, sweep: Callable[..., tuple[Any, str]], launcher: str) -> None:
    """That of the process, and the overrides of the run itself, from which tables make commands for what they lack."""
    sweep(tmp_path, "-m", f"launcher={launcher}", *QUICK, "trainer.epochs=1", "seed=3,4", "augmentation=none")
    started = {
        json.loads(path.read_text())["starts"][0]["command"]: json.loads(path.read_text())["starts"][0]["overrides"]
        for path in tmp_path.rglob("seed3*/environment.json")
    }
    ((command, overrides),) = started.items()
    expected = {"local": "train.py -m .*launcher=local", "parallel": ".*train(.py)? run=.*/none/seed3-"}
    assert re.match(expected[launcher], command)
    assert {"augmentation=none", "seed=3", f"launcher={launcher}"} <= set(overrides)


def test_runs_that_wait_are_known(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    during: list[str] = []

    def watch(self: Local, jobs: list[Any], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        train(jobs[0].folder)
        during.append(status_table(results))
        for job in jobs[1:]:
            train(job.folder)
        return [None] * len(jobs)

    monkeypatch.setattr(Local, "run", watch)
    sweep(tmp_path, "-m", *QUICK, "augmentation=none", "seed=0,1,2")
    assert during[0].endswith("3 runs: 1 finished, 2 waiting\n")
    assert status_table(results).endswith("3 runs: 3 finished\n")

    def refuse(self: Local, jobs: list[Any], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        assert status_table(results).endswith("4 runs: 3 finished, 1 waiting\n")
        raise ReldropError("no")

    monkeypatch.setattr(Local, "run", refuse)
    code, _ = sweep(tmp_path, "-m", *QUICK, "augmentation=none", "seed=2,3")
    assert code == "error: no"
    assert status_table(results).endswith("3 runs: 3 finished\n")

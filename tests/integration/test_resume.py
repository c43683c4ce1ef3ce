"""Resuming."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from reldrop.runs.identity import run_folder
from reldrop.train import train
from tests.helpers.hooks import FailBeforeEvaluation, FailBeforeStep
from tests.helpers.runs import POINTS, QUICK, assert_same_run, command, config, metrics

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "options",
    [
        [*QUICK, "backbone.drop_path=0.3"],
        [*QUICK, "backbone.drop_path=0.3", "monitor.checkpoint_every_steps=2", "monitor.log_every_steps=3"],
        [*POINTS, "trainer.batch_size=8", "monitor.checkpoint_every_steps=3", "trainer.epochs=2"],
        [
            *(*POINTS, "trainer.batch_size=8", "monitor.checkpoint_every_steps=3", "trainer.epochs=2"),
            "trainer.eval_after_attribution=true",
        ],
    ],
)
def test_resumes_exactly_after_an_error(tmp_path: Path, options: list[str]) -> None:
    whole, broken = (config(tmp_path / name, *options) for name in ("whole", "broken"))
    train(whole)
    with pytest.raises(OSError, match="power"):
        train(broken, hooks=[FailBeforeStep(11)])
    folder = run_folder(broken)
    assert "the power went" in (folder / "FAILED").read_text()
    train(broken)
    assert not (folder / "FAILED").exists()
    assert_same_run(folder, run_folder(whole))


def test_resumes_behind_the_last_step(tmp_path: Path) -> None:
    """A kill between the checkpoint of the last step and the evaluation must not lead to a further step."""
    options = [*QUICK, "trainer.max_steps=9", "monitor.checkpoint_every_steps=3"]
    whole, broken = (config(tmp_path / name, *options) for name in ("whole", "broken"))
    train(whole)
    with pytest.raises(OSError, match="power"):
        train(broken, hooks=[FailBeforeEvaluation(9)])
    assert train(broken)["steps"] == 9
    assert_same_run(run_folder(broken), run_folder(whole))


def test_resumes_exactly_after_kill_9(tmp_path: Path) -> None:
    """At one moment; scripts/kill_loop.py kills at many."""
    options = [
        "trainer.epochs=4",
        "dataset.subset=400",
        "monitor.checkpoint_every_steps=3",
        "augmentation=reldrop_pixel",
    ]
    subprocess.run(command(tmp_path / "whole", *options), check=True, capture_output=True)
    whole = next((tmp_path / "whole").glob("results/runs/*/*/seed0-*"))
    process = subprocess.Popen(command(tmp_path / "killed", *options), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "killed").glob("results/runs/*/*/*/last.pt")):
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = next((tmp_path / "killed").glob("results/runs/*/*/seed0-*"))
    subprocess.run(command(tmp_path / "killed", *options), check=True, capture_output=True)
    assert_same_run(whole, killed)


def test_same_command_again_does_nothing_and_force_starts_over(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK)
    first = train(cfg)
    stamp = (run_folder(cfg) / "last.pt").stat().st_mtime_ns
    assert train(cfg) == first
    assert (run_folder(cfg) / "last.pt").stat().st_mtime_ns == stamp
    before = metrics(run_folder(cfg))
    train(config(tmp_path, *QUICK, "force=true"))
    assert (run_folder(cfg) / "last.pt").stat().st_mtime_ns != stamp
    assert metrics(run_folder(cfg)) == before

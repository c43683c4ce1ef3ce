"""Several at once."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.runs.identity import run_folder
from reldrop.sweeps.local import Parallel
from tests.helpers.runs import QUICK, assert_same_run, config
from tests.helpers.sweep_pieces import Teller
from tests.helpers.sweeps import ENVIRONMENT, STEPS, said, start, until

pytestmark = pytest.mark.slow


# ---- several at once -----------------------------------------------------------------------------------------------------


def test_gpus_are_shared_out_and_threads_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    four = Parallel(jobs=4).run([Teller(f"job{number}") for number in range(4)], tmp_path, print)
    assert sorted(four) == ["GPU 4 threads 2"] * 2 + ["GPU 7 threads 2"] * 2
    assert sorted(Parallel().run([Teller("a"), Teller("b")], tmp_path, print)) == ["GPU 4 threads 4", "GPU 7 threads 4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    killed, other = Parallel(jobs=1).run([Teller("killed", killed=True), Teller("other")], tmp_path, print)
    assert killed == f"ended with code -9, see {tmp_path / 'parallel' / 'killed.log'}"
    assert other == "GPU 4 threads 3"


def test_parallel_equals_local(tmp_path: Path, sweep: Callable[..., tuple[Any, str]]) -> None:
    grid = [*QUICK, "augmentation=reldrop_block,none"]
    code, text = sweep(tmp_path / "parallel", "launcher=parallel", "launcher.jobs=2", *grid)
    assert code == 0
    assert "2 runs: 2 finished" in text
    sweep(tmp_path / "local", "-m", *grid)
    for arm in ("reldrop_block", "none"):
        one, other = (
            run_folder(config(tmp_path / launcher, *QUICK, f"augmentation={arm}")) for launcher in ("parallel", "local")
        )
        assert_same_run(one, other)


def test_the_runs_end_with_their_sweep(tmp_path: Path) -> None:
    process = start(tmp_path, "launcher=parallel", *STEPS, SECONDS_PER_STEP="0.5")
    log = until(lambda: list(tmp_path.rglob("parallel/*.log")))[0]
    until(lambda: "step 2" in log.read_text())
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "SIGTERM: the checkpoint is after 0 epochs" in log.read_text()


# ---- as on SLURM, with submitit's executor for one machine ---------------------------------------------------------------


@pytest.mark.submitit
def test_a_job_that_is_sent_the_signal_goes_on_and_a_failed_one_stays_alone(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]]
) -> None:
    bad = run_folder(config(tmp_path, *STEPS, "augmentation=none"))
    bad.mkdir(parents=True)
    (bad / "last.pt").write_bytes(b"no checkpoint")
    slurm = ["launcher=slurm", "launcher.cluster=local", "launcher.gpus_per_node=0"]
    process = start(
        tmp_path,
        *slurm,
        *STEPS,
        "augmentation=reldrop_block,none",
        "launcher.slurm_setup=['export SECONDS_PER_STEP=0.5']",
    )
    until(lambda: said(tmp_path, "step 3"))
    good = run_folder(config(tmp_path, *STEPS))
    os.kill(int(re.search(r"process (\d+)", (good / "lock").read_text())[1]), signal.SIGUSR2)
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "2 runs: 1 finished, 1 failed" in text
    assert re.search(rf"{bad.name} +failed +/.*last.pt is damaged", text)
    batches = said(tmp_path, r"SIGUSR2: the checkpoint is after 0 epochs and (\d+) batches")[1]
    assert int(batches) >= 3
    assert said(tmp_path, f"resuming after 0 epochs and {batches} batches")
    sweep(tmp_path / "local", "-m", *STEPS)
    assert_same_run(good, run_folder(config(tmp_path / "local", *STEPS)))

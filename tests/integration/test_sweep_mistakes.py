"""Mistakes."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reldrop.config import build, check_group
from reldrop.sweeps.job import Job
from reldrop.sweeps.slurm import Slurm
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import config
from tests.helpers.sweeps import start


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["launcher=parallel", "launcher.jobs=0"], "launcher.jobs=0 must be at least 1 or null"),
        (["launcher=parallel", "launcher.job=2"], "did you mean launcher.jobs?"),
        (["launcher=slurm", "+launcher.slurm_partitoin=gpu"], "did you mean launcher.slurm_partition?"),
        (
            ["launcher=slurm", "launcher.timeout_min=2", "launcher.slurm_signal_delay_s=120"],
            "slurm_signal_delay_s=120 must be below 120 seconds, which is timeout_min=2",
        ),
        (["launcher=slurm", "launcher.cluster=pbs"], "launcher.cluster='pbs' must be 'slurm' or 'local'"),
        (["launcher=slurm", "launcher.cluster=local", "launcher.gpus_per_node=2"], "has one process for a run"),
        (["-m", "seed=0,1", "trainer.fast_dev_run=true"], "try one run with it, without -m"),
        (["-m", "seed=0,1", "+augmentation.probabilty=1"], "did you mean augmentation.probability? (in the run"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], overrides: list[str], names: str
) -> None:
    code, _ = sweep(tmp_path, *overrides)
    assert names in str(code)
    assert not (tmp_path / "results" / "runs").exists()


def test_processes_of_torchrun_are_for_the_local_launcher(tmp_path: Path) -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    process = start(tmp_path, "launcher=parallel", **variables)
    assert process.communicate(timeout=120)[0].startswith("error: torchrun and srun start processes for launcher=local")
    assert process.returncode == 1


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "submitit" else find(name))
    with pytest.raises(ReldropError, match=r'pip install "reldrop\[slurm\]"'):
        Slurm()
    monkeypatch.undo()
    if find("submitit") is not None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(ReldropError, match="sbatch, srun and squeue, which are not here"):
            Slurm()


@pytest.mark.submitit
def test_options_of_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    cfg = config(tmp_path, "launcher=slurm", "launcher.slurm_additional_parameters={qos: long}")
    check_group(cfg, "launcher")
    executor = build(cfg, "launcher")._executor(tmp_path, Job(tmp_path / "runs" / "name" / "none" / "seed0"))
    written = executor._executor._make_submission_file_text("command", "0")
    for line in ("--qos=long", "--requeue", "--cpus-per-task=8", "--gpus-per-node=1", "--time=240", "--job-name=name"):
        assert f"#SBATCH {line}\n" in written
    assert "partition" not in written

"""Srun."""

import os
import subprocess
from pathlib import Path

import pytest

from reldrop.distributed.launch import Launch, launched
from reldrop.utils.errors import ReldropError
from tests.helpers.processes import ENVIRONMENT, RESNET, assert_close, trained
from tests.helpers.processes_worker import train_until
from tests.helpers.runs import command

STEP = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_what_launchers_say() -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched({}) == launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Launch(0, 1, 1)
    assert launched(torchrun) == launched({**STEP, **torchrun}) == Launch(1, 2, 2)
    assert launched(STEP) == Launch(3, 4, 2)
    assert launched({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}) == Launch()
    with pytest.raises(ReldropError, match="--ntasks-per-node"):
        launched({**STEP, "SLURM_STEP_TASKS_PER_NODE": "3,1"})


@pytest.mark.slow
@pytest.mark.processes
def test_tasks_of_srun(tmp_path: Path) -> None:
    step = {**STEP, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    step["SLURM_JOB_ID"], step["SLURM_NODEID"] = str(os.getpid()), "0"
    tasks = [
        subprocess.Popen(
            command(tmp_path / "two", *RESNET, "trainer.max_steps=2"),
            env={**ENVIRONMENT, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]
    assert [task.wait(240) for task in tasks] == [0, 0]
    train_until(None, tmp_path / "one", [*RESNET, "trainer.max_steps=2"])
    assert_close(trained(tmp_path, "one"), trained(tmp_path, "two"))

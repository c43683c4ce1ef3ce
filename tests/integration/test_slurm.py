"""Sweeps on a real SLURM, where there is one: `scripts/slurm_one_node.sh up` starts one."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reldrop.runs.identity import run_folder
from tests.helpers.runs import assert_same_run, config
from tests.helpers.sweeps import GRID, STEPS, folders, said, start, until

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


CPU = ["launcher=slurm", "launcher.gpus_per_node=0", "launcher.cpus_per_task=1"]


def control(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True, timeout=60)


def submitted(tmp_path: Path) -> str:
    """Return the number of the job, or of the array of jobs, of the only sweep."""
    return until(lambda: next(tmp_path.rglob("*_submission.sh"), None)).name.split("_")[0]


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*_log.out"))


def test_what_happens_to_jobs_does_not_change_results(
    tmp_path: Path,
    sweep: Callable[..., tuple[Any, str]],
) -> None:
    """Of six jobs, one is requeued from outside, one comes to its time limit, one fails."""
    # A limit of one minute is announced 25 to 55 seconds after the start.
    told = ("SECONDS_PER_STEP=1", "SECONDS_PER_STEP=2.5", "FAIL_IN_STEP=3")
    setup = ",".join(
        f"'[ $SLURM_ARRAY_TASK_ID = {task} ] && [ -z $SLURM_RESTART_COUNT ] && export {what}'"
        for task, what in enumerate(told)
    )
    options = [*CPU, "launcher.timeout_min=10", "launcher.slurm_signal_delay_s=5", f"launcher.slurm_setup=[{setup}]"]
    process = start(tmp_path, *options, *STEPS, *GRID)
    job = submitted(tmp_path)
    (own,) = (tmp_path / "results" / "hydra" / "slurm").iterdir()
    requeued, limited = (own / f"{job}_{task}" for task in (0, 1))
    until(lambda: said(limited, "step 1"))
    control("update", f"JobId={job}_1", "TimeLimit=1")
    until(lambda: said(requeued, "step 2"))
    control("requeue", f"{job}_0")
    until(lambda: said(limited, "Requeued job"))
    control("update", f"JobId={job}_1", "TimeLimit=10")
    sweep(tmp_path / "local", "-m", *STEPS, *GRID)
    text, _ = process.communicate(timeout=180)

    runs = folders(tmp_path, *STEPS)
    assert process.returncode == 1
    assert "6 runs: 5 finished, 1 failed" in text
    assert re.search(rf"none/{runs[2].name} +failed +OSError: the disk is full", text)
    assert "the disk is full" in (runs[2] / "FAILED").read_text()
    for folder, name in ((requeued, "SIGTERM"), (limited, "SIGUSR2")):
        place = r"after (\d+) epochs and (\d+) batches"
        saved = re.findall(f"{name}: the checkpoint is {place}", log(folder))
        resumed = re.findall(f"resuming {place}", log(folder))
        # Between SIGTERM and its end a job goes on, and may come to the checkpoint at the end of the epoch.
        assert [int(number) for number in resumed[-1]] >= [int(number) for number in saved[-1]]
    starts = [len(json.loads((run / "environment.json").read_text())["starts"]) for run in runs]
    assert starts[0] == 2
    assert starts[1] >= 2

    code, text = sweep(tmp_path, *CPU, "launcher.wait=false", *STEPS, *GRID)
    assert code == 0
    assert "6 runs: 5 already there, 1 submitted" in text
    until(lambda: (runs[2] / "summary.json").exists())
    for one, other in zip(runs, folders(tmp_path / "local", *STEPS), strict=True):
        assert_same_run(one, other)


def test_several_processes(tmp_path: Path, sweep: Callable[..., tuple[Any, str]]) -> None:
    code, text = sweep(tmp_path, *CPU, "launcher.tasks_per_node=2", *STEPS, "trainer.epochs=1")
    assert code == 0
    assert "1 runs: 1 finished" in text
    folder = run_folder(config(tmp_path, *STEPS, "trainer.epochs=1"))
    assert json.loads((folder / "environment.json").read_text())["starts"][0]["processes"] == 2


def test_a_job_that_dies_is_noticed(tmp_path: Path, sweep: Callable[..., tuple[Any, str]]) -> None:
    code, text = sweep(tmp_path, *CPU, "launcher.slurm_setup=[exit 3]", *STEPS)
    assert code == 1
    assert re.search("failed +ended without a result, see .*_log.out", text)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("launcher.slurm_partition=nosuch", "[Ii]nvalid partition"),
        ("launcher.gpus_per_node=1", "Invalid generic resource"),
        ("launcher.slurm_additional_parameters={begin: nonsense}", "Invalid --begin specification"),
    ],
)
def test_what_the_cluster_does_not_have(
    tmp_path: Path,
    sweep: Callable[..., tuple[Any, str]],
    override: str,
    reason: str,
) -> None:
    code, text = sweep(tmp_path, *CPU, override, *STEPS)
    assert re.fullmatch(f"error: SLURM does not take the jobs: .*{reason}.*; check the settings of launcher", code)
    assert "sbatch" not in text
    assert not (tmp_path / "results").exists()


def test_a_sweep_that_is_started_again_submits_no_run_twice(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]]
) -> None:
    options = [*CPU, "launcher.wait=false", *STEPS, "trainer.epochs=1"]
    held = [*options, "launcher.slurm_additional_parameters={hold: true}"]
    code, text = sweep(tmp_path, *held, "seed=0,1")
    assert code == 0
    assert "2 runs: 2 submitted" in text
    jobs = re.findall(r"submitted +job (\d+)_\d", text)
    code, text = sweep(tmp_path, *held, "seed=0,1,2", "force=true")
    assert "2 runs have a job in the queue already" in text
    assert "3 runs: 3 submitted" in text
    assert re.findall(r"seed[01].*submitted +job (\d+)_\d", text) == jobs
    assert len([*tmp_path.rglob("*_submission.sh")]) == 2
    (third,) = re.findall(r"seed2.*submitted +job (\d+)", text)
    control("release", jobs[0])
    control("release", third)
    code, text = sweep(tmp_path, *CPU, *STEPS, "trainer.epochs=1", "seed=0,1,2")
    assert code == 0
    assert re.search("3 runs: (3 finished|. already there, . finished)", text)
    assert len([*tmp_path.rglob("*_submission.sh")]) == 2

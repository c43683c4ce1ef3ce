"""Sweeps through each launcher but a real SLURM, and signals that ask a run to stop."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from sweep_pieces import Teller
from test_processes import TORCHRUN
from test_train import QUICK, assert_same_run, config, weights

from reldrop import launchers
from reldrop.errors import ReldropError
from reldrop.interruptions import Interruptions
from reldrop.launchers import Parallel, Slurm
from reldrop.plans import PLANS
from reldrop.reporting.status import status_table
from reldrop.runs import run_folder
from reldrop.sweep import outcomes
from reldrop.train import command, train

STEPS = [*QUICK, "optimizer._target_=sweep_pieces.SGD"]
GRID = ["augmentation=reldrop_block,none,random_erasing", "seed=0,1"]
TESTS = str(Path(__file__).parent)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(TESTS).parent), TESTS))}

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs submitit")


def arguments(tmp_path: Path, *overrides: str) -> list[str]:
    return [*overrides, f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}"]


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


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str]]:
    """The command in this process: what it exits with, and what it has said."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])

    def run(tmp_path: Path, *overrides: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments(tmp_path, *overrides)])
        outcomes.clear()
        with pytest.raises(SystemExit) as stop:
            command()
        GlobalHydra.instance().clear()
        return stop.value.code, "".join(capfd.readouterr())

    return run


# ---- one after another -------------------------------------------------------------------------------------------------


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
    assert re.search(rf"{bad.name} +failed +checkpoint .* is damaged", text)
    assert "is damaged" in (bad / "FAILED").read_text()
    accuracy = json.loads((good[0] / "summary.json").read_text())["test_top1"]
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

    code, text = sweep(tmp_path, *grid, "seed=4", "augmentation=none", "trainer.progress=true,false")
    assert "1 runs: 1 finished" in text  # the same one twice


def test_a_damaged_result_is_named(tmp_path: Path, sweep: Callable[..., tuple[Any, str]]) -> None:
    sweep(tmp_path, "-m", *QUICK)
    summary = run_folder(config(tmp_path, *QUICK)) / "summary.json"
    whole = summary.read_text()
    summary.write_text(whole[:50])
    for words in (["-m", *QUICK], QUICK):
        code, _ = sweep(tmp_path, *words)
        assert re.match(rf"error: {summary} is damaged .*; delete it, and the same command writes it anew", code)
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
    monkeypatch.setattr(launchers.Local, "run", lambda self, jobs, folder: given.extend(jobs) or [None] * len(jobs))
    sweep(tmp_path, "-m", *QUICK, "force=true")
    assert [(job.folder, job.cfg["force"]) for job in given] == [(folder, False)]
    assert not (folder / "last.pt").exists()
    assert not (folder / "summary.json").exists()


@pytest.mark.parametrize("launcher", ["local", "parallel"])
def test_the_command_is_taken_down(tmp_path: Path, sweep: Callable[..., tuple[Any, str]], launcher: str) -> None:
    """That of the sweep, and the overrides of the run itself, from which tables make commands for what they lack."""
    sweep(tmp_path, "-m", f"launcher={launcher}", *QUICK, "trainer.epochs=1", "seed=3,4", "augmentation=none")
    started = {
        json.loads(path.read_text())["starts"][0]["command"]: json.loads(path.read_text())["starts"][0]["overrides"]
        for path in tmp_path.rglob("seed3*/environment.json")
    }
    ((command, overrides),) = started.items()
    assert command.startswith(f"train.py -m launcher={launcher}")
    assert {"augmentation=none", "seed=3", f"launcher={launcher}"} <= set(overrides)


def test_runs_that_wait_are_known(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    during: list[str] = []

    def watch(self: launchers.Local, jobs: list[Any], folder: Path) -> list[str | None]:
        first = jobs[0].train()
        during.append(status_table(results))
        return [first, *(job.train() for job in jobs[1:])]

    monkeypatch.setattr(launchers.Local, "run", watch)
    sweep(tmp_path, "-m", *QUICK, "augmentation=none", "seed=0,1,2")
    assert during[0].endswith("3 runs: 1 finished, 2 waiting\n")
    assert status_table(results).endswith("3 runs: 3 finished\n")

    def refuse(self: launchers.Local, jobs: list[Any], folder: Path) -> list[str | None]:
        raise ReldropError("no")

    monkeypatch.setattr(launchers.Local, "run", refuse)
    code, _ = sweep(tmp_path, "-m", *QUICK, "augmentation=none", "seed=2,3")
    assert code == "error: no"
    assert status_table(results).endswith("3 runs: 3 finished\n")
    next((results / PLANS).glob("*.json")).write_text("{")
    with pytest.raises(ReldropError, match=r"the list of a sweep's runs, cannot be read \(.*\); delete it"):
        status_table(results)


# ---- several at once -----------------------------------------------------------------------------------------------------


def test_gpus_are_shared_out_and_threads_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launchers, "_gpus", lambda: ["4", "7"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    four = Parallel(jobs=4).run([Teller(f"job{number}") for number in range(4)], tmp_path)
    assert sorted(four) == ["GPU 4 threads 2"] * 2 + ["GPU 7 threads 2"] * 2
    assert sorted(Parallel().run([Teller("a"), Teller("b")], tmp_path)) == ["GPU 4 threads 4", "GPU 7 threads 4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    killed, other = Parallel(jobs=1).run([Teller("killed", killed=True), Teller("other")], tmp_path)
    assert killed == f"ended with code -9, see {tmp_path / 'parallel' / 'killed.log'}"
    assert other == "GPU 4 threads 3"


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_runs_end_with_their_sweep(tmp_path: Path) -> None:
    process = start(tmp_path, "launcher=parallel", *STEPS, SECONDS_PER_STEP="0.5")
    log = until(lambda: list(tmp_path.rglob("parallel/*.log")))[0]
    until(lambda: "step 2" in log.read_text())
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "SIGTERM: the checkpoint is after 0 epochs" in log.read_text()


# ---- as on SLURM, with submitit's executor for one machine ---------------------------------------------------------------


@needs_submitit
@pytest.mark.slow
def test_a_job_that_is_sent_the_signal_goes_on_and_a_failed_one_stays_alone(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]]
) -> None:
    bad = run_folder(config(tmp_path, *STEPS, "augmentation=none"))
    bad.mkdir(parents=True)
    (bad / "last.pt").write_bytes(b"no checkpoint")
    slurm = ["launcher=slurm", "launcher.executor=local", "launcher.gpus=0"]
    process = start(
        tmp_path, *slurm, *STEPS, "augmentation=reldrop_block,none", "launcher.setup=['export SECONDS_PER_STEP=0.5']"
    )
    until(lambda: said(tmp_path, "step 3"))
    good = run_folder(config(tmp_path, *STEPS))
    os.kill(int(re.search(r"process (\d+)", (good / "lock").read_text())[1]), signal.SIGUSR2)
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "2 runs: 1 finished, 1 failed" in text
    assert re.search(rf"{bad.name} +failed +checkpoint .* is damaged", text)
    batches = said(tmp_path, r"SIGUSR2: the checkpoint is after 0 epochs and (\d+) batches")[1]
    assert int(batches) >= 3
    assert said(tmp_path, f"resuming after 0 epochs and {batches} batches")
    sweep(tmp_path / "local", "-m", *STEPS)
    assert_same_run(good, run_folder(config(tmp_path / "local", *STEPS)))


# ---- signals -----------------------------------------------------------------------------------------------------------


def test_signals_wait_and_are_handed_on() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: calls.append(number))
    try:
        with Interruptions() as interruptions:
            signal.raise_signal(signal.SIGUSR2)
            assert interruptions.noted() == [signal.SIGUSR2]
            assert calls == []
            interruptions.hand_on(signal.SIGUSR2)
            assert calls == [signal.SIGUSR2]
            assert interruptions.noted() == []
            with pytest.raises(SystemExit) as stop:
                interruptions.hand_on(signal.SIGTERM)  # which nobody handles
            assert stop.value.code == 143
            signal.raise_signal(signal.SIGUSR2)
        assert calls == [signal.SIGUSR2] * 2  # at the end of the block
        signal.raise_signal(signal.SIGUSR2)
        assert calls == [signal.SIGUSR2] * 3  # as before
        with pytest.raises(SystemExit):
            _fail_after_a_signal()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, before)


def _fail_after_a_signal() -> None:
    with Interruptions():
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a worker is gone")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_terminated_run_goes_on_where_it_was(tmp_path: Path, processes: int) -> None:
    launch = TORCHRUN if processes > 1 else [sys.executable]
    options = [*STEPS, "backbone.drop_path=0.3"]
    process = start(tmp_path / "broken", *options, launch=launch, SECONDS_PER_STEP="0.5")
    for line in process.stdout:
        if line.endswith("step 3\n"):
            break
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == (143 if processes == 1 else 1)
    assert "Traceback" not in text or processes > 1  # torchrun has one of its own
    broken = run_folder(config(tmp_path / "broken", *options))
    assert not (broken / "FAILED").exists()
    batches = re.search(r"SIGTERM: the checkpoint is after 0 epochs and (\d+) batches", text)[1]
    assert int(batches) >= 3
    text, _ = start(tmp_path / "broken", *options, launch=launch).communicate(timeout=120)
    assert f"resuming after 0 epochs and {batches} batches" in text
    if processes == 1:
        whole = config(tmp_path / "whole", *options)
        train(whole)
        assert_same_run(broken, run_folder(whole))
    else:
        assert (broken / "summary.json").exists()


def test_a_signal_during_the_evaluation_keeps_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reldrop.loop import Loop

    whole, broken = config(tmp_path / "whole", *QUICK), config(tmp_path / "broken", *QUICK)
    train(whole)
    accuracy = Loop._accuracy

    def interrupted(self: Loop, split: str, limit: int | None) -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        return accuracy(self, split, limit)

    monkeypatch.setattr(Loop, "_accuracy", interrupted)
    with pytest.raises(SystemExit):
        train(broken)
    state = weights(run_folder(broken))
    assert state.keys() == weights(run_folder(whole)).keys()
    assert not (run_folder(broken) / "FAILED").exists()
    monkeypatch.undo()
    train(broken)
    assert_same_run(run_folder(broken), run_folder(whole))


# ---- mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["launcher=parallel", "launcher.jobs=0"], "launcher.jobs=0 must be at least 1 or null"),
        (["launcher=parallel", "launcher.job=2"], "did you mean launcher.jobs?"),
        (["launcher=slurm", "+launcher.partitoin=gpu"], "did you mean launcher.partition?"),
        (
            ["launcher=slurm", "launcher.time=2", "launcher.signal_delay=120"],
            "signal_delay=120 seconds leave nothing of 2 minutes",
        ),
        (["launcher=slurm", "launcher.executor=pbs"], "launcher.executor='pbs' must be 'slurm' or 'local'"),
        (["launcher=slurm", "launcher.executor=local", "launcher.gpus=2"], "has one process for a run"),
        (["-m", "seed=0,1", "+augmentation.probabilty=1"], "did you mean augmentation.probability? (in the run"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], overrides: list[str], names: str
) -> None:
    code, _ = sweep(tmp_path, *overrides)
    assert names in str(code)
    assert not (tmp_path / "results" / "runs").exists()


def test_processes_of_torchrun_are_for_the_local_launcher(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(key, str(value))
    code, _ = sweep(tmp_path, "launcher=parallel")
    assert code.startswith("error: torchrun and srun start processes for launcher=local only")


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

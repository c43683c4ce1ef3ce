"""Run."""

import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder, find_runs
from reldrop.runs.run import Run, discard, load_prepared, prepare
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT
from tests.helpers.run_folders import make_config

# Opening


def test_first_start_and_resume_write_down_configuration_and_environment(cfg):
    for _ in range(2):
        with Run(cfg) as run:
            pass
    config = OmegaConf.load(run.path / "config.yaml")
    assert config.machine.cache_dir == "/data/cubs"
    first, second = json.loads((run.path / "environment.json").read_text())["starts"]
    assert first["packages"]["torch"] == second["packages"]["torch"]
    assert {"git", "python", "platform", "devices", "hostname", "command", "time"} <= set(first)


def test_folder_is_refused_to_a_second_process(cfg, run):
    OmegaConf.save(cfg, run.path / "test.yaml")
    script = "import sys; from omegaconf import OmegaConf; from reldrop.runs.run import Run; Run(OmegaConf.load(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(run.path / "test.yaml")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 1
    assert f"is in use by process {os.getpid()} on " in second.stderr


def test_lock_is_released_on_close_even_if_a_forked_worker_still_has_it(cfg):
    with Run(cfg):
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        worker.start()
        with pytest.raises(ReldropError, match="in use"):
            Run(cfg)
    try:
        Run(cfg).close()
    finally:
        worker.terminate()


def test_force_starts_over_but_not_under_a_running_process(cfg, tmp_path):
    forced = make_config(tmp_path, force=True)
    with Run(cfg) as run:
        run.log({"epoch": 1})
        run.save({}, "last.pt")
        (run.path / "wandb" / "deep").mkdir(parents=True)
        run.finish({"accuracy": 1.0})
        with pytest.raises(ReldropError, match="in use"):
            Run(forced)
        assert run.finished
    with Run(forced) as run:
        assert not run.finished
        assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "environment.json", "lock"]


def test_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ReldropError, match="set results_dir"):
        Run(make_config(tmp_path))


def test_unwritable_results(cfg, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ReldropError, match=r"Permission denied.*set results_dir"):
        Run(cfg)


def test_failed_opening_releases_the_lock(cfg):
    Run(cfg).close()
    overrides = run_folder(cfg) / "overrides.yaml"
    overrides.write_text("a: [")
    with pytest.raises(ReldropError, match=r"overrides\.yaml is damaged \(.*\); delete it"):
        Run(cfg)
    overrides.unlink()
    Run(cfg).close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"starts": 3}', "\0\0"])
def test_a_damaged_environment_does_not_stop_a_run(cfg, caplog, content):
    Run(cfg).close()
    (run_folder(cfg) / "environment.json").write_text(content)
    with Run(cfg) as run:
        assert len(run.environment()) == 1
    assert "environment.json is damaged" in caplog.text


# Result


def test_finish_marks_the_run_and_a_finished_run_is_opened_untouched(cfg):
    with Run(cfg) as run:
        assert not run.finished
        run.finish({"accuracy": 0.5, "loss": float("nan")})
    before = (run.path / "environment.json").read_text()
    with Run(cfg) as run:
        assert run.finished
        assert run.summary() == {"accuracy": 0.5, "loss": None}
    assert (run.path / "environment.json").read_text() == before


def test_exception_is_kept_until_the_next_start(cfg):
    with pytest.raises(ZeroDivisionError), Run(cfg) as run:
        _ = 1 / 0
    failed = run.path / "FAILED"
    assert "ZeroDivisionError: division by zero" in failed.read_text()
    with Run(cfg):
        assert not failed.exists()


def test_the_log_of_all_starts(cfg):
    logger = logging.getLogger("reldrop")
    with pytest.raises(OSError, match="no space"):
        _fail_in(cfg, logger)
    logger.warning("between")
    with Run(cfg) as run:
        logging.getLogger("other").warning("second start")
        run.finish({})
    with Run(cfg):
        logger.warning("nothing to do")
    text = (run.path / "train.log").read_text()
    first, failed, *trace, last, second = text.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING first start", first)
    assert failed.endswith("ERROR the run fails")
    assert trace[0].startswith("Traceback")
    assert last == "OSError: no space"
    assert second.endswith("WARNING second start")


def _fail_in(cfg, logger):
    with Run(cfg):
        logger.warning("first start")
        raise OSError("no space")


def test_interrupt_is_no_failure(cfg):
    with pytest.raises(KeyboardInterrupt), Run(cfg) as run:
        raise KeyboardInterrupt
    assert not (run.path / "FAILED").exists()
    Run(cfg).close()


# Runs that are to be started later


@pytest.fixture
def trainable(tmp_path):
    return make_config(tmp_path, backbone={"name": "resnet"})


def test_prepared_folder_waits_and_holds_what_a_start_needs(trainable, tmp_path):
    folder = prepare(trainable, ["seed=3"])
    assert folder == run_folder(trainable)
    waiting = RunFolder(folder)
    assert (waiting.state, waiting.progress, waiting.overrides) == ("waiting", "epoch 0 of 5", ["seed=3"])
    assert waiting.label == "/".join(folder.parts[-3:])
    with Run(load_prepared(folder)) as run:
        assert run.path == folder
        assert (waiting.state, waiting.is_held) == ("running", True)
        assert run.environment()[0]["overrides"] == run.overrides == ["seed=3"]
    assert waiting.state == "interrupted"


def test_preparing_leaves_alone_what_has_been_started(trainable, tmp_path):
    with Run(trainable, ["seed=3"]) as run:
        assert prepare(trainable, ["other=1"]) == run.path
        with pytest.raises(ReldropError, match="in use"):
            prepare(make_config(tmp_path, backbone={"name": "resnet"}, force=True), [])
        run.log({"epoch": 1})
    assert prepare(trainable, ["other=1"]) == run.path
    assert (run.overrides, run.history()) == (["seed=3"], [{"epoch": 1}])


def test_preparing_by_force_clears_once(trainable, tmp_path):
    with Run(trainable) as run:
        run.finish({"test/top1": 1.0})
    folder = prepare(make_config(tmp_path, backbone={"name": "resnet"}, force=True), ["force=true"])
    assert RunFolder(folder).state == "waiting"
    for _ in range(2):  # put back into a queue, it goes on
        with Run(load_prepared(folder)) as run:
            run.log({"epoch": 1})
    assert len(run.history()) == 2


def test_discard_removes_only_what_has_not_been_started(trainable, tmp_path):
    folder = prepare(trainable, [])
    discard(folder)
    assert not (tmp_path / "runs" / "demo").exists()
    with Run(trainable) as run:
        pass
    discard(run.path)
    assert run.path.exists()


def test_prepared_run_trains_where_its_folder_is_now(trainable, tmp_path):
    folder = prepare(trainable, [])
    (tmp_path / "moved").mkdir()
    (tmp_path / "runs").rename(tmp_path / "moved" / "runs")
    moved = tmp_path / "moved" / folder.relative_to(tmp_path)
    cfg = load_prepared(moved, ["machine.accelerator=cuda"])
    assert run_folder(cfg) == moved
    assert cfg.machine.accelerator == "cuda"


def test_prepared_run_cannot_become_another_one(trainable, tmp_path):
    folder = prepare(trainable, [])
    with pytest.raises(ReldropError, match="start the run by its settings"):
        load_prepared(folder, ["trainer.epochs=6"])
    with pytest.raises(ReldropError, match=r"config\.yaml cannot be read"):
        load_prepared(tmp_path / "runs" / "demo")


@pytest.mark.parametrize("name", ["exp [a]", "lr=0.1,b", "what?", "a*"])
def test_a_path_that_is_there_is_no_pattern(tmp_path, name):
    (tmp_path / name / "seed0").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    assert find_runs([str(tmp_path / name)]) == [tmp_path / name]
    assert find_runs([f"{tmp_path}/*/seed?"]) == [tmp_path / name / "seed0"]
    with pytest.raises(ReldropError, match="leads to no folder"):
        find_runs([str(tmp_path / "exp [b]")])

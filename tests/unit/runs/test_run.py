"""Run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reldrop.runs.run import Run
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT
from tests.helpers.run_folders import make_config

# Opening


def test_first_start_and_resume_write_down_configuration_and_environment(cfg):
    for _ in range(2):
        with Run(cfg) as run:
            pass
    config = OmegaConf.load(run.folder / "config.yaml")
    assert config.dataset.root == "/data/cubs"
    first, second = json.loads((run.folder / "environment.json").read_text())["starts"]
    assert first["packages"]["torch"] == second["packages"]["torch"]
    assert {"git", "python", "platform", "devices", "hostname", "command", "time"} <= set(first)


def test_folder_is_refused_to_a_second_process(cfg, run):
    OmegaConf.save(cfg, run.folder / "test.yaml")
    script = "import sys; from omegaconf import OmegaConf; from reldrop.runs.run import Run; Run(OmegaConf.load(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(run.folder / "test.yaml")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 1
    assert f"is in use by process {os.getpid()} on " in second.stderr


def test_lock_is_released_on_close_even_if_a_forked_worker_still_has_it(cfg):
    with Run(cfg) as run:
        os.dup(run._lock.fileno())  # what a fork does to it
        with pytest.raises(ReldropError, match="in use"):
            Run(cfg)
    Run(cfg).close()


def test_force_starts_over_but_not_under_a_running_process(cfg, tmp_path):
    forced = make_config(tmp_path, force=True)
    with Run(cfg) as run:
        run.log({"epoch": 1})
        run.save({}, "last.pt")
        (run.folder / "wandb" / "deep").mkdir(parents=True)
        run.finish({"accuracy": 1.0})
        with pytest.raises(ReldropError, match="in use"):
            Run(forced)
        assert run.finished
    with Run(forced) as run:
        assert not run.finished
        assert sorted(path.name for path in run.folder.iterdir()) == ["config.yaml", "environment.json", "lock"]


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


def test_failed_opening_releases_the_lock(cfg, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("reldrop.runs.run._environment", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Run(cfg)
    Run(cfg).close()


# Result


def test_finish_marks_the_run_and_a_finished_run_is_opened_untouched(cfg):
    with Run(cfg) as run:
        assert not run.finished
        run.finish({"accuracy": 0.5, "loss": float("nan")})
    before = (run.folder / "environment.json").read_text()
    with Run(cfg) as run:
        assert run.finished
        assert run.summary() == {"accuracy": 0.5, "loss": None}
    assert (run.folder / "environment.json").read_text() == before


def test_exception_is_kept_until_the_next_start(cfg):
    with pytest.raises(ZeroDivisionError), Run(cfg) as run:
        _ = 1 / 0
    failed = run.folder / "FAILED"
    assert "ZeroDivisionError: division by zero" in failed.read_text()
    with Run(cfg):
        assert not failed.exists()


def test_interrupt_is_no_failure(cfg):
    with pytest.raises(KeyboardInterrupt), Run(cfg) as run:
        raise KeyboardInterrupt
    assert not (run.folder / "FAILED").exists()
    Run(cfg).close()

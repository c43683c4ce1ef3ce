import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from reldrop.errors import ReldropError
from reldrop.runs import Run, atomic_write, identity, run_folder, run_hash, write_json_atomic


def make_config(results_dir, **changes):
    cfg = OmegaConf.create(
        {
            "name": "demo",
            "seed": 3,
            "data_dir": "/data",
            "results_dir": str(results_dir),
            "force": False,
            "dataset": {"root": "${data_dir}/cubs", "workers": 4, "size": 32},
            "augmentation": {"name": "reldrop", "alpha": 0.4},
            "trainer": {"epochs": 5, "devices": 1, "accelerator": "cpu", "checkpoint_every": 1},
            "tracking": {"mode": "disabled"},
        }
    )
    OmegaConf.set_struct(cfg, True)
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


@pytest.fixture
def cfg(tmp_path):
    return make_config(tmp_path)


@pytest.fixture
def run(cfg):
    with Run(cfg) as run:
        yield run


# Identity and folder


@pytest.mark.parametrize(
    "change",
    [
        {"data_dir": "/elsewhere"},
        {"force": True},
        {"tracking__mode": "online"},
        {"launcher": {"partition": "gpu"}},
        {"dataset__workers": 0},
        {"dataset__download": True},
        {"trainer__devices": 4},
        {"trainer__accelerator": "cuda"},
        {"trainer__checkpoint_every": 10},
    ],
)
def test_identity_ignores_what_does_not_change_the_result(change):
    assert run_hash(identity(make_config("r", **change))) == run_hash(identity(make_config("elsewhere")))


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"augmentation__alpha": 0.5}, {"dataset__root": "${data_dir}/cars"}, {"trainer__lr": 0.1}]
)
def test_identity_notices_what_changes_the_result(change):
    assert run_hash(identity(make_config("r", **change))) != run_hash(identity(make_config("r")))


def test_identity_keeps_the_relative_part_of_a_path_and_leaves_the_configuration_alone(cfg):
    OmegaConf.set_readonly(cfg, True)
    before = OmegaConf.to_yaml(cfg)
    assert identity(cfg)["dataset"] == {"root": "/cubs", "size": 32}
    assert OmegaConf.to_yaml(cfg) == before


def test_identity_resolves_what_points_into_ignored_parts():
    assert identity(make_config("r", trainer__note="${tracking.mode}"))["trainer"]["note"] == "disabled"


@pytest.mark.parametrize("value", ["${nowhere}", "???"])
def test_unresolvable_configuration_is_refused(tmp_path, value):
    with pytest.raises(ReldropError, match="does not resolve"):
        Run(make_config(tmp_path, augmentation__alpha=value))


def test_folder(cfg, tmp_path):
    folder = run_folder(cfg)
    assert folder == tmp_path / "runs" / "demo" / "reldrop" / f"seed3-{run_hash(identity(cfg))}"
    assert not folder.exists()


@pytest.mark.parametrize("key", ["name", "augmentation__name"])
@pytest.mark.parametrize("name", ["a/b", "..", "", None])
def test_names_stay_inside_the_results(tmp_path, key, name):
    with pytest.raises(ReldropError, match="names a folder"):
        run_folder(make_config(tmp_path, **{key: name}))


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
    script = (
        "import sys; from omegaconf import OmegaConf; from reldrop.runs import Run; Run(OmegaConf.load(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(run.folder / "test.yaml")]
    second = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
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
        patch.setattr("reldrop.runs._environment", lambda: 1 / 0)
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


# Metrics log


def test_log_is_valid_json_without_non_finite_numbers(run):
    run.log({"epoch": 1, "loss": float("nan"), "lr": [0.1, float("inf")], "test": {"accuracy": float("-inf")}})
    expected = {"epoch": 1, "loss": None, "lr": [0.1, None], "test": {"accuracy": None}}
    assert run.history() == [expected]
    assert json.loads((run.folder / "metrics.jsonl").read_text()) == expected


def test_torn_last_line_does_not_count_and_nothing_is_glued_to_it(cfg):
    with Run(cfg) as run:
        assert run.history() == []
        run.log({"epoch": 1})
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 2, "lo')
        assert run.history() == [{"epoch": 1}]
    with Run(cfg) as run:
        run.log({"epoch": 2})
        assert run.history() == [{"epoch": 1}, {"epoch": 2}]


def test_rewind(run):
    run.rewind(0)
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch})
    run.rewind(2)
    assert [record["epoch"] for record in run.history()] == [1, 2]


def test_damaged_line(run):
    (run.folder / "metrics.jsonl").write_text('{"epoch": 1}\n\0\0\n{"epoch": 3}\n')
    with pytest.raises(ReldropError, match=r"metrics\.jsonl is damaged"):
        run.history()


# Checkpoints


def test_checkpoint_round_trip(run):
    assert run.load("last.pt") is None
    run.save({"epoch": 2, "weight": torch.arange(3.0)}, "last.pt")
    state = run.load("last.pt")
    assert state["epoch"] == 2
    assert torch.equal(state["weight"], torch.arange(3.0))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 100])
def test_damaged_checkpoint(run, damage):
    run.save({"weight": torch.arange(1000.0)}, "last.pt")
    path = run.folder / "last.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReldropError, match=r"last\.pt is damaged \(.+\).*force=true"):
        run.load("last.pt")


def test_checkpoint_survives_a_failure_of_its_successor(run, monkeypatch):
    run.save({"epoch": 1}, "last.pt")

    def fail(*args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            run.save({"epoch": 2}, "last.pt")
    assert run.load("last.pt") == {"epoch": 1}
    assert not list(run.folder.glob(".*.tmp"))


def test_leftover_of_a_kill_is_removed_at_the_next_start(cfg):
    with Run(cfg) as run:
        run.save({"epoch": 1}, "last.pt")
        (run.folder / ".last.pt.tmp").write_bytes(b"half")
    with Run(cfg) as run:
        assert run.load("last.pt") == {"epoch": 1}
        assert not (run.folder / ".last.pt.tmp").exists()


def test_atomic_write_leaves_the_old_file_when_its_block_fails(tmp_path):
    path = tmp_path / "x.json"
    write_json_atomic(path, {"a": 1})
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"{", "not bytes"])
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]

"""Several processes train and evaluate as one does: shares of batches, draws, sums, checkpoints, failures."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from reldrop.runs.pictures import Cloud, Confusion, Curves
from reldrop.runs.run import Run
from reldrop.runs.tracking import mirror, start_tracking
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT

TRACKING = {"project": "reldrop", "entity": None, "group": "demo/none", "tags": ["a"], "job_type": "train"}


class FakeWandb:
    """Stands for the module and its server: it keeps the last step of each run, and records the calls."""

    def __init__(self, fail_in=()):
        self.fail_in = fail_in
        self.inits, self.logs, self.exits, self.steps, self.summary, self.axes = [], [], [], {}, {}, {}
        self.Settings = SimpleNamespace
        self.Image = lambda image: ("image", image)

    def login(self, timeout):
        assert timeout <= 60
        return "login" not in self.fail_in

    def init(self, **options):
        self._maybe_fail("init")
        self.inits.append(options)
        run_id = options["id"]

        def log(values, step=None, commit=None):
            self._maybe_fail("log")
            step = self.steps.get(run_id, -1) + 1 if step is None else step
            self.logs.append((step, values))
            self.steps[run_id] = max(step, self.steps.get(run_id, -1))

        def finish(exit_code=0):
            self.exits.append(exit_code)
            self._maybe_fail("finish")

        def define_metric(name, step_metric=None, hidden=False):
            self.axes[name] = step_metric

        parts = {"log": log, "finish": finish, "summary": self.summary, "define_metric": define_metric}
        return SimpleNamespace(starting_step=self.steps.get(run_id, -1) + 1, **parts)

    def _maybe_fail(self, call):
        if call in self.fail_in:
            raise RuntimeError(f"{call}\nfailed")


@pytest.fixture
def fake(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


@pytest.fixture
def open_run(tmp_path):
    def open_run(force=False):
        return Run(
            OmegaConf.create(
                {
                    "name": "demo",
                    "seed": 0,
                    "data_dir": "data",
                    "results_dir": str(tmp_path / "results"),
                    "augmentation": {"name": "none"},
                    "force": force,
                }
            )
        )

    return open_run


def start(run, mode):
    return start_tracking({**TRACKING, "mode": mode}, run=run, config={"seed": 0}, name="demo")


def log(run, tracker, *epochs):
    for epoch in epochs:
        record = {"epoch": epoch, "step": 0, "loss": 1 / epoch}
        run.log(record)
        tracker.log(record)


def warnings(caplog):
    return [record for record in caplog.records if record.name == "reldrop"]  # W&B writes to a log file of its own


def steps(fake):
    return [step for step, _ in fake.logs]


@pytest.mark.parametrize("mode", ["disabled", "online", "offline"])
def test_config_group(mode):
    folder = ROOT / "conf"
    with initialize_config_dir(str(folder), version_base=None):
        cfg = compose(overrides=[f"+tracking={mode}", "+name=demo", "+augmentation={name: reldrop}"])
    assert cfg.tracking.mode == mode
    assert cfg.tracking.group == "demo/reldrop"
    assert set(cfg.tracking) == {*TRACKING, "mode", "tensorboard", "artifacts", "_target_"}


def test_disabled_does_not_import_wandb(open_run, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with open_run() as run:
        tracker = start(run, "disabled")
        log(run, tracker, 1)
        tracker.log({"epoch": 2, "step": 0}, {"image": "x.png"})
        tracker.keep(run.path)
        tracker.finish()
    assert not warnings(caplog)


def test_unknown_mode(open_run):
    with open_run() as run, pytest.raises(ReldropError, match=r"mode='on' must be 'disabled', 'online' or"):
        start(run, "on")


def test_online_run(open_run, fake):
    with open_run() as run:
        tracker = start(run, "online")
        log(run, tracker, 1)
        tracker.log({"epoch": 2, "step": 0, "loss": 0.5}, {"maps": Path("x.png")})
        tracker.keep(run.path)  # artifacts: none
        tracker.finish()
        tracker.finish()
        tracker.log({"epoch": 3, "step": 0})
    (options,) = fake.inits
    assert options["settings"].console == "off"
    assert options["settings"].init_timeout <= 60
    assert options["dir"] == str(run.path)
    assert options["id"] == (run.path / "wandb_id").read_text().strip()
    assert fake.logs == [
        (1, {"epoch": 1, "step": 0, "loss": 1.0}),
        (2, {"epoch": 2, "step": 0, "loss": 0.5, "maps": ("image", "x.png")}),
    ]
    assert fake.exits == [0]


def test_resume_goes_on_with_the_same_run_and_sends_nothing_twice(open_run, fake):
    with open_run() as run:
        log(run, start(run, "online"), 1, 2, 3)
    with open_run() as run:
        run.rewind(2, 0)  # the checkpoint of epoch 3 was not written any more
        log(run, start(run, "online"), 3, 4)
    first, second = fake.inits
    assert first["id"] == second["id"]
    assert second["resume"] == "allow"
    assert steps(fake) == [1, 2, 3, 4]


def test_offline_resume_sends_nothing_twice(open_run, fake):
    with open_run() as run:
        log(run, start(run, "offline"), 1, 2)
    fake.steps.clear()  # offline, nobody knows
    with open_run() as run:
        log(run, start(run, "offline"), 3)
    assert steps(fake) == [1, 2, 3]


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_tracking_that_begins_late_sends_the_earlier_epochs(open_run, fake, mode):
    with open_run() as run:
        log(run, start(run, "disabled"), 1, 2)
    with open_run() as run:
        log(run, start(run, mode), 3)
    assert steps(fake) == [1, 2, 3]


def test_steps_lie_between_epochs_and_have_an_axis_of_their_own(open_run, fake):
    records = [
        {"epoch": 0, "step": 2, "step/loss": 3.0},
        {"epoch": 0, "step": 4, "step/loss": 2.0},  # the last step of the epoch
        {"epoch": 1, "step": 4, "test/top1": 0.5},
        {"epoch": 1, "step": 6, "step/loss": 1.0},
    ]
    with open_run() as run:
        for record in records:
            (run.log if "test/top1" in record else run.log_step)(record)
        tracker = start(run, "online")  # sends what W&B lacks
        tracker.log({"epoch": 1, "step": 6, "step/loss": 1.0})
        tracker.log({"epoch": 2, "step": 8, "test/top1": 0.75})
        tracker.summarize({"test/best_top1": 0.75})
    assert fake.logs[:4] == list(zip([2, 4, 5, 7], records, strict=True))
    assert steps(fake)[-1] == 10
    assert fake.axes["step/*"] == "step"
    assert {fake.axes[key] for key in ("train/*", "test/*", "occlusion/*", "lr")} == {"epoch"}
    assert fake.summary == {"test/best_top1": 0.75}


def test_force_begins_a_new_run(open_run, fake):
    for force in (False, True):
        with open_run(force=force) as run:
            log(run, start(run, "online"), 1)
    first, second = fake.inits
    assert first["id"] != second["id"]


@pytest.mark.parametrize(("call", "exits"), [("init", []), ("log", [1]), ("finish", [0])])
def test_failure_is_one_warning_and_the_run_goes_on(open_run, fake, caplog, call, exits):
    fake.fail_in = (call,)
    with open_run() as run:
        tracker = start(run, "online")
        log(run, tracker, 1, 2)
        tracker.log({"epoch": 3, "step": 0}, {"maps": "x.png"})
        tracker.finish()
        assert len(run.history()) == 2
    (warning,) = warnings(caplog)
    assert warning.levelno == logging.WARNING
    assert f"RuntimeError: {call} failed" in warning.message
    assert "wandb login" in warning.message
    assert "tracking=offline" in warning.message
    assert fake.exits == exits


def test_unanswered_login_prompt_is_one_warning(open_run, fake, caplog):
    fake.fail_in = ("login",)
    with open_run() as run:
        log(run, start(run, "online"), 1)
    (warning,) = warnings(caplog)
    assert "not logged in" in warning.message
    assert not fake.inits


def test_failure_of_everything_is_still_one_warning(open_run, fake, caplog):
    fake.fail_in = ("log", "finish")
    with open_run() as run:
        tracker = start(run, "online")
        log(run, tracker, 1, 2)
        tracker.finish(exit_code=1)
    assert len(warnings(caplog)) == 1


def test_missing_package(open_run, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with open_run() as run:
        tracker = start(run, "online")
        log(run, tracker, 1)
        tracker.finish()
    (warning,) = warnings(caplog)
    assert "pip install" in warning.message


@pytest.fixture
def real(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.slow
def test_offline_for_real(open_run, real, caplog):
    figure = Figure()
    figure.subplots().plot([0, 1])
    cloud = Cloud(np.eye(3), 255 * np.eye(3, dtype=np.uint8), "three points")
    curves = Curves("Accuracy", "hidden", "accuracy", "order", [0, 1], {"most": [0.9, 0.1], "least": [0.9, 0.2]})
    confusion = Confusion([0, 1, 1], [0, 1, 0], ["cat", "dog"])
    pictures = {"figure": figure, "cloud": cloud, "curves": curves, "confusion": confusion}
    for epochs in ((1, 2), (3,)):
        with open_run() as run:
            (run.path / "best.pt").write_bytes(b"weights")
            tracker = start_tracking(
                {**TRACKING, "mode": "offline", "artifacts": "best"}, run=run, config={}, name="demo"
            )
            log(run, tracker, *epochs[:-1])
            record = {"epoch": epochs[-1], "step": 0}
            run.log(record)
            tracker.log(record, pictures)
            tracker.keep(run.path)
            tracker.finish()
    run_id = (run.path / "wandb_id").read_text().strip()
    logs = list(run.path.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert logs
    assert all(log.stat().st_size for log in logs)
    for name in ("images/figure_*.png", "object3D/cloud_*.pts.json", "table/curves_*.json", "table/confusion_*.json"):
        assert list(run.path.glob(f"wandb/offline-run-*/files/media/{name}"))
    assert not warnings(caplog)


@pytest.mark.slow
def test_missing_login_for_real(open_run, real, caplog):
    with open_run() as run:
        tracker = start(run, "online")
        log(run, tracker, 1)
        tracker.finish()
    (warning,) = warnings(caplog)
    assert "wandb login" in warning.message


def test_evaluations_are_added_to_the_run(fake, open_run, tmp_path):
    tracking = {**TRACKING, "mode": "online"}
    with open_run() as run:
        tracker = start(run, "online")
        tracker.log({"epoch": 1, "step": 0, "loss": 1.0})
        tracker.finish()
    Figure().savefig(tmp_path / "curves.png")
    mirror(tracking, run.path, {"clean/top1": 0.5}, {"curves": tmp_path / "curves.png"})
    assert fake.inits[1]["id"] == fake.inits[0]["id"]
    assert fake.summary == {"evaluation/clean/top1": 0.5}
    step, values = fake.logs[-1]
    assert step == 2
    assert values.keys() == {"evaluation/curves"}
    assert fake.exits == [0, 0]


def test_evaluations_of_untracked_runs_stay_in_the_folder(fake, open_run):
    with open_run() as run:
        pass
    mirror({**TRACKING, "mode": "online"}, run.path, {"clean/top1": 0.5}, {})
    mirror({}, run.path, {"clean/top1": 0.5}, {})
    assert fake.inits == []


def test_evaluations_survive_wandb(monkeypatch, open_run, caplog):
    with open_run() as run:
        (run.path / "wandb_id").write_text("abc\n")
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fail_in=("init",)))
    mirror({**TRACKING, "mode": "offline"}, run.path, {"clean/top1": 0.5}, {})
    assert "in the run folder only" in caplog.text


def test_variables_of_an_agent_win(open_run, fake, monkeypatch):
    for name, value in {"RUN_ID": "agent1", "NAME": "eager-sweep-3", "RUN_GROUP": "g", "SWEEP_ID": "s"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    config = {"seed": 0, "augmentation": {"name": "none"}}
    with open_run() as run:
        start_tracking({**TRACKING, "mode": "online"}, run=run, config=config, name="demo")
        (options,) = fake.inits
        assert options["id"] == (run.path / "wandb_id").read_text().strip() == "agent1"
        assert not {"name", "group"} & options.keys()  # wandb reads its variables itself
        assert options["project"] == "reldrop"
        assert options["config"] == {**config, "augmentation.name": "none"}


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_another_agent_goes_on_with_a_run_of_its_own(open_run, fake, monkeypatch, mode):
    with open_run() as run:
        log(run, start(run, mode), 1)
        monkeypatch.setenv("WANDB_RUN_ID", "agent2")
        log(run, start(run, mode), 2)
    assert [options["id"] for options in fake.inits][1] == "agent2"
    assert steps(fake) == [1, 1, 2]  # with the epochs before
    assert (run.path / "wandb_id").read_text() == "agent2\n"


def test_mode_of_the_environment(open_run, fake, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with open_run() as run:
        assert not start(run, "online")
    assert fake.inits == []
    monkeypatch.setenv("WANDB_MODE", "online")
    with open_run() as run:
        assert not start(run, "disabled")  # said on purpose
    assert fake.inits == []


def test_tensorboard_has_the_whole_history_after_a_resume(open_run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**TRACKING, "mode": "disabled", "tensorboard": True}
    with open_run() as run:
        for epochs in ((1, 2), (3,)):
            tracker = start_tracking(settings, run=run, config={}, name="demo")
            assert tracker
            for epoch in epochs:
                step = {"epoch": epoch - 1, "step": 10 * epoch - 1, "step/loss": 2.0}
                record = {"epoch": epoch, "step": 10 * epoch, "train/loss": 1 / epoch, "test/top1": None}
                run.log_step(step)
                run.log(record)
                tracker.log(step)
                tracker.log(record)
            pictures = {
                "examples": Figure(),
                "cloud": Cloud(np.eye(3), np.eye(3, dtype=np.uint8), ""),
                "other": "x.png",
            }
            tracker.log({"epoch": epochs[-1], "step": 0}, pictures)
            tracker.finish()
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["step/loss", "train/loss"]
    assert [(each.step, each.value) for each in found.Scalars("step/loss")] == [(9, 2.0), (19, 2.0), (29, 2.0)]
    losses = [(each.step, each.value) for each in found.Scalars("train/loss")]
    assert losses == [(epoch, pytest.approx(1 / epoch)) for epoch in (1, 2, 3)]
    assert [each.step for each in found.Images("examples")] == [3]


def test_without_tensorboard(open_run, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_run() as run:
        tracker = start_tracking({**TRACKING, "mode": "disabled", "tensorboard": True}, run=run, config={}, name="demo")
        log(run, tracker, 1)
    (warning,) = warnings(caplog)
    assert "pip install tensorboard" in warning.getMessage()

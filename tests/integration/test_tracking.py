"""What Weights & Biases has of runs, by its own client; and that a run is the same with it and without."""

import json
import logging

import pytest

from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder
from reldrop.runs.tracking import position
from reldrop.train import train
from tests.helpers.runs import QUICK, assert_same_run, config
from tests.helpers.sweeps import STEPS, start
from tests.helpers.wandb_server import serve

pytestmark = pytest.mark.slow
pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch, tmp_path):
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_pictures_change_no_run(tmp_path, caplog):
    pictured = ["tracking=offline", "tracking.artifacts=last", "monitor.pictures_every_epochs=2"]
    words = [*QUICK, "monitor.occlusion_every_epochs=2", "backbone.drop_path=0.3"]
    runs = []
    for folder, tracking in (("plain", ["tracking=disabled"]), ("pictured", pictured)):
        cfg = config(tmp_path / folder, *words, *tracking)
        train(cfg)
        runs.append(run_folder(cfg))
    assert runs[0].name == runs[1].name
    assert_same_run(*runs)
    assert not [record for record in caplog.records if record.name == "reldrop" and record.levelno > logging.INFO]
    media = {file.parts[-1].rsplit("_", 2)[0] for file in runs[1].glob("wandb/offline-run-*/files/media/*/pictures/*")}
    assert media == {"examples", "occlusion_curves_table", "confusion_table"}
    assert len(list(runs[1].glob("wandb/offline-run-*/files/media/images/pictures/examples_*.png"))) == 2


def test_what_arrives_at_the_server_is_the_log_of_metrics(tmp_path):
    """Also of a run that is killed amid its second epoch and goes on."""
    options = [*STEPS, "tracking=online", "monitor.log_every_steps=3", "monitor.pictures_every_epochs=null"]
    with serve() as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        process = start(tmp_path, *options, **environment)
        for line in process.stdout:
            if line.endswith("step 11\n"):
                break
        process.kill()
        process.communicate(timeout=240)
        process = start(tmp_path, *options, **environment)
        text, _ = process.communicate(timeout=240)
        assert process.returncode == 0, text
    (served,) = server.runs.values()
    cfg = config(tmp_path, *options)
    folder = RunFolder(run_folder(cfg))
    assert len(folder.history()) == 3
    assert served.history == sorted([*folder.history(), *folder.steps()], key=position)
    assert served.sent["groupName"] == f"{cfg.name}/reldrop_block"
    assert served.sent["jobType"] == "train"
    assert json.loads(served.sent["config"])["augmentation"]["value"]["name"] == "reldrop_block"
    assert served.summary["test/best_top1"] == max(record["test/top1"] for record in folder.history())
    assert served.exit_code == 0
    assert "WARNING" not in text

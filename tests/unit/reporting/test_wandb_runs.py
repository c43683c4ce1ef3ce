"""Weights & biases."""

import json
import re
import sys
from types import SimpleNamespace

import pytest

from reldrop.reporting.commands import command_like
from reldrop.reporting.wandb_runs import read_wandb
from tests.helpers.tables import FIXTURES, RUNS, arm, composed, fails, has_settings_of, run


class FakeApi:
    """Answers as the public API of wandb does, with what a project of the fixture's runs holds."""

    def runs(self, path):
        if path != "lab/reldrop":
            raise ValueError("Could not find project nothing")
        for answer in json.loads((FIXTURES / "wandb_runs.json").read_text()):
            history = answer.pop("history")
            yield SimpleNamespace(**answer, scan_history=lambda history=history: iter(history))


@pytest.fixture
def wandb(monkeypatch):
    module = SimpleNamespace(Api=FakeApi)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_runs_of_wandb_are_those_of_the_folders(records, wandb):
    theirs, remarks = read_wandb("wandb:lab/reldrop")
    assert remarks == ["https://wandb.ai/lab/reldrop/runs/0000000a is not finished and left out"]
    ours = [run for run in records if run.augmentation != "random_erasing"]
    assert [run.settings for run in theirs] == [run.settings for run in ours]
    assert [run.config_hash for run in theirs] == [run.config_hash for run in ours]
    samples = ("train_samples", "test_samples")  # which W&B does not know
    for their, own in zip(theirs, ours, strict=True):
        assert their.figures.items() >= {key: value for key, value in own.figures.items() if key not in samples}.items()
        assert their.starts[0]["commit"] == own.starts[0]["commit"]
    assert command_like(theirs[0], [4], "none") is None  # the words of a sweep are not those of one run


def test_commands_of_runs_of_wandb(records, wandb):
    words = ["results_dir=fix", "trainer.epochs=5", "dataset.subset=800", "machine.progress=false"]
    answers = FakeApi().runs("lab/reldrop")
    run = next(answers)
    run.metadata["args"] = ["augmentation=none", "seed=0", *words]
    wandb.Api = lambda: SimpleNamespace(runs=lambda path: [run])
    ((record,), _) = read_wandb("wandb:lab/reldrop")
    assert has_settings_of(composed(command_like(record, [4], "none")), arm(records, "none")[0])


def test_a_configuration_of_others_is_not_computed(monkeypatch, wandb):
    monkeypatch.setenv("WANDB_API_KEY", "abcdef")
    run = next(FakeApi().runs("lab/reldrop"))
    run.config = {**run.config, "optimizer": {"name": "${oc.env:WANDB_API_KEY}"}}
    wandb.Api = lambda: SimpleNamespace(runs=lambda path: [run])
    records, (remark,) = read_wandb("wandb:lab/reldrop")
    assert records == []
    assert "optimizer.name=${oc.env:WANDB_API_KEY} is no plain value" in remark


def test_a_table_from_wandb(capsys, monkeypatch, wandb):
    out, err = run(capsys, monkeypatch, "source=wandb:lab/reldrop", "paper=table1")
    ours = run(capsys, monkeypatch, RUNS, "paper=table1", "where=augmentation.name!=random_erasing").out
    figures = re.compile(r"\d\d\.\d\d ± \d\.\d\d")
    assert figures.findall(out) == figures.findall(ours) != []
    assert "0000000a is not finished" in err


def test_wandb_that_cannot_be_read(monkeypatch, wandb):
    assert "Could not find project" in fails(monkeypatch, "source=wandb:lab/nothing")
    assert "must be source=wandb:ENTITY/PROJECT" in fails(monkeypatch, "source=wandb:reldrop")

    def no_login():
        raise RuntimeError("No API key configured")

    wandb.Api = no_login
    assert "No API key configured); check `wandb login`" in fails(monkeypatch, "source=wandb:lab/reldrop")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install wandb" in fails(monkeypatch, "source=wandb:lab/reldrop")

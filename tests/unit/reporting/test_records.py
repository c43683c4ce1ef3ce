"""What is read."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reldrop.config import CONFIG_PATH
from reldrop.reporting.cells import Score
from reldrop.reporting.layouts import paper_table, table_of_settings
from reldrop.reporting.records import Record, read_runs
from reldrop.runs.identity import run_folder
from reldrop.utils.errors import ReldropError
from tests.helpers.tables import run


def test_records_of_folders(records):
    assert [(record.augmentation, record.seed) for record in records] == [
        *(("none", seed) for seed in range(3)),
        *(("random_erasing", seed) for seed in range(2)),
        *(("reldrop_block", seed) for seed in range(3)),
    ]
    for record in records:
        summary = json.loads((Path(record.run) / "summary.json").read_text())
        assert record.figures["test/top1"] == summary["test_top1"]  # the key of an earlier version
        assert record.conditions["summary.source"] == "embedded in scikit-learn"


@pytest.mark.parametrize("experiment", ["digits_resnet", "cifar_resnet", "modelnet_pointnet2"])
def test_the_hash_is_that_of_the_run_folder(tmp_path, experiment):
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", [f"+experiment={experiment}", f"data_dir={tmp_path}", "seed=3"])
    record = Record.of("", cfg, figures={})
    assert run_folder(cfg).name == f"seed3-{record.config_hash}"


def test_where_the_data_are_stored_is_no_setting(results):
    file = next(results.glob("runs/*/none/seed0*/config.yaml"))
    config = OmegaConf.load(file)
    config.data_dir, config.machine.cache_dir = "/a/b", "${data_dir}/c"
    here = Record.of("here", config, figures={})
    config.data_dir = "/elsewhere"
    there = Record.of("there", config, figures={})
    assert here.setting == there.setting
    assert here.settings == there.settings


def test_an_unreadable_run_among_good_ones(capsys, monkeypatch, results):
    first, second, third = sorted(results.glob("runs/*/none/seed*"))
    (first / "summary.json").write_text('{"test/top1": 0.')
    (second / "config.yaml").write_text("dataset: [")
    (third / "summary.json").unlink()
    out, err = run(capsys, monkeypatch, results)
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("warning: ") for line in lines)
    assert f"{first} is left out: {first / 'summary.json'} is damaged" in lines[0]
    assert f"{second} is left out: " in lines[1]
    assert f"not finished and left out: {third} (see" in lines[2]
    assert "reldrop_block" in out


def test_runs_of_older_versions(results):
    """They may lack settings and figures of today, and how they were composed."""
    for folder in results.glob("runs/*/*/seed*"):
        config = OmegaConf.load(folder / "config.yaml")
        for group, key in (("trainer", "sync_batchnorm"), ("trainer", "label_smoothing"), ("attribution", "attention")):
            del config[group][key]
        OmegaConf.save(config, folder / "config.yaml")
        summary = json.loads((folder / "summary.json").read_text())
        kept = {key: value for key, value in summary.items() if "class_mean" not in key and "samples" not in key}
        (folder / "summary.json").write_text(json.dumps(kept))
        (folder / "environment.json").unlink()
    records, remarks = read_runs(results)
    assert len(records) == 8
    assert not remarks
    table = paper_table("table1", records, None, 0.95)
    assert [cell.summary.n for cell in table.cells] == [3, 2, 3]
    assert table.cells[1].command is None  # nothing tells how it was started


def test_figures_of_other_files_of_a_run(results):
    folder = next(results.glob("runs/*/none/seed0*"))
    content = {
        "subject": "digits_resnet/none/seed0, last checkpoint, 5 epochs",
        "seed": 0,
        "settings": {"suite": {"steps": 32}, "limit": None},
        "samples": 450,
        "clean": {"top1": 0.25, "curve": [1.0, 0.5]},
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    record = read_runs(results)[0][0]
    assert record.figures["evaluation.clean.top1"] == 0.25
    assert record.figures["evaluation.clean.curve.1"] == 0.5
    measured = {key: value for key, value in record.conditions.items() if key.startswith("evaluation.")}
    assert measured == {
        "evaluation.settings.suite.steps": 32,
        "evaluation.settings.limit": None,
        "evaluation.checkpoint": "last checkpoint, 5 epochs",
        "evaluation.samples": 450,
    }
    cell = table_of_settings([record], [Score("evaluation.clean.top1")], 0.95).rows[0].cells[0]
    assert (cell.summary.n, cell.summary.mean) == (1, 0.25)


@pytest.mark.parametrize(("name", "is_refused"), [("best", False), ("last", True)])
def test_evaluations_of_other_epochs(results, name, is_refused):
    for epochs, folder in enumerate(sorted(results.glob("runs/*/none/seed*"))):
        subject = f"digits_resnet/none/{folder.name}, {name} checkpoint, {epochs + 1} epochs"
        suite = {"_target_": f"some.place{epochs}.Robustness"}
        content = {"subject": subject, "settings": {"suite": suite}, "clean": {"top1": 0.5}}
        (folder / "evaluation.json").write_text(json.dumps(content))
    records = [record for record in read_runs(results)[0] if record.augmentation == "none"]
    with (
        pytest.raises(ReldropError, match=r"not measured alike: evaluation\.checkpoint")
        if is_refused
        else nullcontext()
    ):
        table_of_settings(records, [Score("evaluation.clean.top1")], 0.95)


def test_keys_of_older_results(results):
    folder = next(results.glob("runs/*/none/seed0*"))
    summary = json.loads((folder / "summary.json").read_text())
    summary["generalisation_gap"] = summary.pop("generalization_gap")
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "evaluation.json").write_text(json.dumps({"blocks": {"centre": {"0.1": 0.5, "mean": 0.25}}}))
    figures = read_runs(results)[0][0].figures
    assert figures["test/generalization_gap"] == summary["generalisation_gap"]
    assert (figures["evaluation.blocks.center.0.1"], figures["evaluation.blocks.center.mean"]) == (0.5, 0.25)


def test_a_data_set_without_a_name_has_that_of_its_folder(capsys, monkeypatch, results):
    for file in results.glob("runs/*/*/seed*/config.yaml"):
        config = OmegaConf.load(file)
        config.dataset.name, config.dataset.folder = None, "data/of/mine"
        OmegaConf.save(config, file)
    assert {record.dataset for record in read_runs(results)[0]} == {"mine"}
    for words in ([], ["paper=table1"]):
        assert "dataset mine, backbone resnet_tiny" in run(capsys, monkeypatch, results, *words).out

"""The command."""

import json
import re
import shutil

import pytest
from omegaconf import OmegaConf

from reldrop.reporting.request import Request
from reldrop.tables import overrides
from tests.helpers.tables import RUNS, fails, run


def test_provenance_lies_beside_a_table(tmp_path, capsys, monkeypatch, records):
    output = tmp_path / "new" / "table.md"
    run(capsys, monkeypatch, RUNS, "paper=table1", "where=seed!=2", f"output={output}")
    content = json.loads((tmp_path / "new" / "table.md.runs.json").read_text())
    used = [record for record in records if record.seed != 2]
    assert [entry["run"] for entry in content["runs"]] == [record.run for record in used]
    assert [entry["config_hash"] for entry in content["runs"]] == [record.config_hash for record in used]
    starts = {(start["commit"], start["dirty"]) for record in used for start in record.starts}
    assert {(code["commit"], code["dirty"]) for code in content["code"]} == starts
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit, _ in starts)


def test_every_table_into_a_folder(tmp_path, capsys, monkeypatch, results):
    for folder in list(results.glob("runs/digits_resnet/*/seed0*")):
        twin = results / "runs" / "ablation_k" / folder.parent.name / folder.name
        shutil.copytree(folder, twin)
        config = OmegaConf.load(twin / "config.yaml")
        config.name = "ablation_k"
        OmegaConf.save(config, twin / "config.yaml")
    output = tmp_path / "all"
    run(capsys, monkeypatch, results, f"output={output}")
    names = {file.name for file in output.iterdir() if not file.name.endswith(".runs.json")}
    assert names == {
        f"{name}.{end}" for name in ("runs", "table1", "ablation_k") for end in ("txt", "md", "tex", "csv")
    }
    file = next(results.glob("runs/digits_resnet/none/seed1*/config.yaml"))
    file.write_text(file.read_text().replace("batch_size: 128", "batch_size: 64"))
    shutil.rmtree(output)
    message = fails(monkeypatch, results, f"output={output}", "format=csv")
    assert message.startswith(
        "error: table1: the runs of digits_resnet digits resnet_tiny none differ in more than the seed: "
    )
    assert {file.name for file in output.glob("*.csv")} == {"runs.csv", "ablation_k.csv"}  # the others are there


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["papr=table1"], "papr is not a setting; did you mean paper?"),
        (["paper=table3"], "paper='table3' must be 'table1', 'table2' or 'ablation'"),
        (["format=html"], "format='html' must be 'terminal', 'markdown', 'latex' or 'csv'"),
        (["metric=test_top"], "metric=test_top is a figure of no run; did you mean test/top5?"),
        (["confidence=95"], "confidence=95 must be below 1"),
        (["reldrop=reldrop_patch"], "goes with paper=table1 or paper=table2"),
        (["better=lower"], "better and unit go with metric=NAME"),
        (["unit=percent"], "better and unit go with metric=NAME"),
        (["better=more", "metric=test/top1"], "better='more' must be 'higher', 'lower' or 'none'"),
        (["paper=table2"], "of which there are no finished runs (there are digits none"),
        (["output=table.doc"], "the suffix tells no format"),
        (["source=mlflow:a/b"], "must be source=wandb:ENTITY/PROJECT"),
        (["status=yes"], "status='yes' must be true or false"),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, words, message):
    assert message in fails(monkeypatch, RUNS, *words)


def test_a_folder_without_runs(tmp_path, monkeypatch):
    assert "no finished runs under" in fails(monkeypatch, tmp_path)
    assert "no runs under" in fails(monkeypatch, "status", tmp_path)


def test_words_of_the_command_line(tmp_path):
    assert overrides(["status", "a/b c"]) == ["status=true", 'results_dir="a/b c"']
    (tmp_path / "lr=0.1").mkdir()
    assert overrides([f"{tmp_path}/lr=0.1"]) == [f'results_dir="{tmp_path}/lr=0.1"']
    words = [
        "where=seed!=0,2",
        "where=[name=x,augmentation.scale=[0.02,0.4]]",
        "metric=test/top1,clean.aurra",
        "paper=table1",
    ]
    assert overrides(words) == [
        "paper=table1",
        'where=["seed!=0,2", "name=x", "augmentation.scale=[0.02,0.4]"]',
        'metric=["test/top1", "clean.aurra"]',
    ]
    assert overrides(["output=~/table 1.tex", "--cfg", "job"])[:2] == ['output="~/table 1.tex"', "--cfg"]


def test_help_explains_every_setting(capsys, monkeypatch):
    out = run(capsys, monkeypatch, "--help").out
    assert all(f"\n{name}: " in out for name in Request.__dataclass_fields__)
    assert "where:" in out
    assert "hydra:" not in out

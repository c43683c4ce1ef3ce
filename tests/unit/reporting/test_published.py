"""Selecting, published values, provenance."""

import csv

import pytest

from reldrop.reporting.published import COLUMNS
from reldrop.reporting.records import select
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT
from tests.helpers.tables import RUNS, fails, run


def test_where(records):
    def chosen(*where):
        return [(run.augmentation, run.seed) for run in select(records, where)]

    assert chosen("seed=1", "augmentation.name=r*") == [("random_erasing", 1), ("reldrop_block", 1)]
    assert len(chosen("augmentation.scale=[0.02,0.4]")) == 8  # none has no area and stays
    assert chosen("seed!=0,2") == [("none", 1), ("random_erasing", 1), ("reldrop_block", 1)]
    assert len(chosen(f"setting={records[0].setting}")) == 3
    with pytest.raises(ReldropError, match=r"no run has a setting augmentation\.kk; did you mean augmentation\.k\?"):
        chosen("augmentation.kk=1")
    with pytest.raises(ReldropError, match=r"where=augmentation\.k=2 leaves no run; there are 1"):
        chosen("augmentation.k=2")
    with pytest.raises(ReldropError, match="not of the form"):
        chosen("seed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("digit,resnet_tiny,none,test/top1,90,x", "line 2: dataset digit is not known; did you mean digits"),
        (
            "digits,resnet_tiny,nothing_at_all,test/top1,90,x",
            "augmentation nothing_at_all is not known; known are none",
        ),
        ("digits,resnet_tiny,none,top_two,90,x", "metric top_two is not known"),
        ("digits,resnet_tiny,none,test/top1,ninety,x", "line 2: value 'ninety' is no number"),
        ("digits,resnet_tiny,none,test/top1", "line 2: it does not have 6 values"),
        (
            "digits,resnet_tiny,none,test/top1,90,x\ndigits,resnet_tiny,none,test/top1,91,y",
            "line 3: the same cell as in line 2",
        ),
    ],
)
def test_reference_files_that_are_wrong(tmp_path, monkeypatch, line, message):
    file = tmp_path / "reference.csv"
    file.write_text(f"{','.join(COLUMNS)}\n{line}\n")
    assert message in fails(monkeypatch, RUNS, "paper=table1", f"reference={file}")


def test_reference_files_of_another_form(tmp_path, monkeypatch):
    file = tmp_path / "reference.csv"
    file.write_text("dataset,value\n")
    assert "they must be dataset,backbone" in fails(monkeypatch, RUNS, f"reference={file}")
    assert "cannot be read" in fails(monkeypatch, RUNS, f"reference={tmp_path / 'nothing.csv'}")
    example = ROOT / "results" / "reference_example.csv"
    assert example.read_text() == ",".join(COLUMNS) + "\n"


def test_published_values_beside_ours(tmp_path, capsys, monkeypatch):
    file = tmp_path / "reference.csv"
    file.write_text(
        f"{','.join(COLUMNS)}\ndigits,resnet_tiny,none,test/top1,12.5,a book\ncifar10,resnet18,none,test/top1,1.5,\n"
    )
    out = run(capsys, monkeypatch, RUNS, "format=csv", "paper=table1", f"reference={file}").out
    line = next(csv.DictReader(out.splitlines()))
    assert float(line["published"]) == 12.5
    assert float(line["minus_published"]) == pytest.approx(float(line["mean"]) - 12.5, abs=1e-3)
    out = run(capsys, monkeypatch, RUNS, "paper=table1", f"reference={file}").out
    assert "(published 12.50, +" in out or "(published 12.50, -" in out
    assert "Published values: a book." in out
    assert "Published, but not in this table: cifar10 resnet18 none test/top1." in out

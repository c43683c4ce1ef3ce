"""Layouts and formats."""

import csv
from dataclasses import replace

import pytest

from reldrop.reporting.cells import Score
from reldrop.reporting.formats import comma_separated, latex, markdown, terminal
from reldrop.reporting.layouts import ablation_table, paper_table
from reldrop.utils.errors import ReldropError
from tests.helpers.tables import RUNS, TOP1, arm, changed, on_seeds, run


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ("runs.txt", []),
        ("runs.md", ["metric=test/top1,test/generalization_gap", "where=augmentation.name!=random_erasing"]),
        ("table1.md", ["paper=table1", f"reference={RUNS / 'reference.csv'}"]),
        ("table1.tex", ["paper=table1", "confidence=0.9"]),
        ("table1.csv", ["paper=table1", f"reference={RUNS / 'reference.csv'}"]),
        ("ablation.txt", ["paper=ablation", "where=seed=0,1"]),
    ],
)
def test_golden_tables(tmp_path, capsys, monkeypatch, golden, words):
    file = tmp_path / golden
    run(capsys, monkeypatch, RUNS, *words, f"output={file}")
    assert file.read_text() == (RUNS / "golden" / golden).read_text()


def test_the_figures_of_the_golden_table_by_hand(records):
    """The oracle of the golden files: mean, deviation and difference from the summaries alone."""
    values = {name: [run.figures["test/top1"] for run in arm(records, name)] for name in ("none", "reldrop_block")}
    mean = {name: sum(items) / 3 for name, items in values.items()}
    deviation = (sum((value - mean["none"]) ** 2 for value in values["none"]) / 2) ** 0.5
    golden = (RUNS / "golden" / "table1.md").read_text()
    assert f" {100 * mean['none']:.2f} ± {100 * deviation:.2f} (n=3) " in golden
    differences = [ours - theirs for ours, theirs in zip(values["reldrop_block"], values["none"], strict=True)]
    interval = f"[{100 * min(differences):+.2f}, {100 * max(differences):+.2f}]"
    assert f" {100 * (mean['reldrop_block'] - mean['none']):+.2f} {interval} (n=3, p=" in golden


def test_what_is_best_is_marked_in_every_format(records):
    none, block = arm(records, "none")[0], arm(records, "reldrop_block")[0]
    runs = [*on_seeds(none, (0.5, 0.52, 0.51)), *on_seeds(block, (0.7, 0.72, 0.715))]
    table = paper_table("table1", runs, None, 0.95)
    assert " 71.17 ± 1.04 (n=3) *\n" in terminal(table)
    assert "| **71.17 ± 1.04 (n=3)** |" in markdown(table)
    assert r" & \textbf{71.17 $\pm$ 1.04} \\" in latex(table)
    lines = list(csv.DictReader(comma_separated(table).splitlines()))
    assert [line["best"] for line in lines] == ["0", "0", "1"]
    assert "Marked as best" in terminal(table)


def test_zero_shot_rows_of_table_1(records):
    scores = {"zero_shot.imagenet_a.top1": 0.01, "zero_shot.imagenet_r.top1": 0.3, "zero_shot.imagenet_o.aupr": 0.17}
    imagenet = [changed(run, figures=scores, dataset__name="imagenet") for run in records]
    table = paper_table("table1", [*records, *imagenet], None, 0.95)
    titles = ["test, last", "ImageNet-A", "ImageNet-R", "ImageNet-O, AUPR"]
    assert [row.labels["score"] for row in table.rows] == [*titles, "test, last"]  # the paper's data sets first
    assert table.rows[3].cells[0].summary.mean == pytest.approx(0.17)
    lacking = [run if run.seed else replace(run, figures={"test/top1": 0.5}) for run in imagenet]
    cell = paper_table("table1", lacking, None, 0.95).rows[1].cells[0]
    assert cell.summary.n == 2
    without = [
        run.run for run in lacking if not run.seed and run.augmentation != "random_erasing"
    ]  # which lacks a seed
    loop = f"for run in {' '.join(without)}; do python -m reldrop.evaluate run=$run suite=zero_shot; done"
    assert cell.command == loop
    one = [lacking[0], *imagenet[1:]]
    command = paper_table("table1", one, None, 0.95).rows[1].cells[0].command
    assert command == f"python -m reldrop.evaluate run={lacking[0].run} suite=zero_shot"


def test_table_2(records):
    points = {"dataset__points": 1024, "dataset__name": "modelnet40", "backbone__name": "pointnet2_msg"}
    names = {"random_erasing": "random_point_dropout", "reldrop_block": "reldrop_point", "none": "none"}
    clouds = [changed(run, **points, augmentation__name=names[run.augmentation]) for run in records]
    table = paper_table("table2", [*records, *clouds], None, 0.95)
    assert table.columns == ["none", "random point dropout", "RelDrop-point"]
    assert [[*row.labels.values()] for row in table.rows] == [
        ["digits_resnet", "modelnet40", "pointnet2_msg", "test, last"],
        ["digits_resnet", "modelnet40", "pointnet2_msg", "class mean, last"],
    ]
    assert [cell.summary.n for cell in table.rows[0].cells] == [3, 2, 3]
    assert (
        table.rows[0].cells[1].command.startswith("python -m reldrop.train augmentation=random_erasing ")
    )  # as it was started


def test_a_paper_table_is_of_its_own_experiments(records):
    named = [changed(run, name=f"table1_digits{end}") for run in records for end in ("", "_smoke")]
    ablation = [changed(run, name="ablation_k", trainer__epochs=9) for run in records]
    table = paper_table("table1", [*records, *named, *ablation], None, 0.95)
    assert [row.labels["experiment"] for row in table.rows] == ["table1_digits", "table1_digits_smoke"]
    assert "Not shown: the experiments ablation_k, digits_resnet (where=name=NAME shows one)." in table.notes
    assert any("smoke" in note for note in table.notes)
    assert any("smoke" in note for note in ablation_table(named, [Score("test/top1")], 0.95).notes)
    assert not ablation_table(records, [Score("test/top1")], 0.95).notes
    table = paper_table("table1", [*records, *ablation], None, 0.95)
    assert [row.labels["experiment"] for row in table.rows] == ["digits_resnet"]
    patch = [changed(run, augmentation__name="reldrop_patch") for run in arm(records, "reldrop_block")]
    table = paper_table("table1", [*records, *patch], None, 0.95, ["reldrop_patch", "reldrop_block"])
    assert table.columns == ["none", "random erasing", "RelDrop-patch", "RelDrop-block"]
    assert [cell.summary.n for cell in table.cells] == [3, 2, 3, 3]


def test_an_ablation_shows_what_differs(records):
    block = arm(records, "reldrop_block")
    settings = ({"augmentation__k": 5}, {"augmentation__k": 10, "augmentation__scale": [0.02, 0.1]})
    others = [changed(run, **changes) for run in block for changes in settings]
    table = ablation_table([*arm(records, "none"), *block, *others], [TOP1], 0.95)
    assert table.labels == ["augmentation", "augmentation.k", "augmentation.scale", "seeds"]
    assert [[*row.labels.values()] for row in table.rows] == [
        ["none", "-", "-", "3"],
        ["reldrop_block", "1", "[0.02,0.4]", "3"],
        ["reldrop_block", "5", "[0.02,0.4]", "3"],
        ["reldrop_block", "10", "[0.02,0.1]", "3"],
    ]
    assert all("none" in row.cells[0].comparisons for row in table.rows[1:])
    kinds = [changed(run, attribution__name="random") for run in block]
    table = ablation_table([*block, *kinds], [TOP1], 0.95)
    assert [row.labels["attribution"] for row in table.rows] == ["gradient", "random"]


def test_units_and_directions():
    assert Score("zero_shot.imagenet_o.fpr95").sign == Score("test/generalization_gap").sign == -1
    assert Score("evaluation.clean.top1").sign == 1
    assert Score("steps").file == "summary"
    assert Score("evaluation.spread.gini").sign == 0
    with pytest.raises(ReldropError, match=r"metric=gap_closed is not in .*better=higher\|lower\|none unit="):
        Score("gap_closed", better="higher")
    own = Score("gap_closed", better="higher", unit="percent")
    assert (own.sign, own.metric.title, own.metric.format(0.5)) == (1, "gap_closed", "50.00")
    assert Score("train/loss", unit="percent").metric.format(0.5) == "50.00"

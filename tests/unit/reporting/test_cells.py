"""Cells."""

from dataclasses import replace

import pytest

from reldrop.reporting.cells import Cell, Score, arm_of, compare_all
from reldrop.reporting.layouts import paper_table, table_of_settings
from reldrop.utils.errors import ReldropError
from tests.helpers.tables import TOP1, arm, changed, on_seeds


def mean_of(records, key="test/top1"):
    return sum(record.figures[key] for record in records) / len(records)


def test_runs_that_differ_are_refused_in_one_cell(records):
    none = arm(records, "none")
    other = [none[0], changed(none[1], trainer__epochs=9, optimizer__lr=0.2)]
    with pytest.raises(
        ReldropError, match=r"more than the seed: optimizer\.lr \(0\.1 or 0\.2\), trainer\.epochs \(5 or 9\)"
    ):
        arm_of(other, "digits none")
    with pytest.raises(
        ReldropError, match=r"digits_resnet digits resnet_tiny none differ.*the seed: trainer\.epochs \("
    ):
        paper_table("table1", [*records, changed(none[0], seed=7, trainer__epochs=9)], None, 0.95)
    with pytest.raises(ReldropError, match=r"two runs of seed 0.*where=run!="):
        arm_of([none[0], changed(none[0], seed=0, figures={"test/top1": 0.0})], "digits none")
    assert len(arm_of([none[0], changed(none[0])], "digits none").runs) == 1  # the same run twice is one


def test_arms_that_differ_are_refused_in_one_row(records):
    longer = [changed(record, trainer__epochs=9) for record in arm(records, "reldrop_block")]
    with pytest.raises(
        ReldropError, match=r"arms of digits_resnet digits resnet_tiny differ.*: trainer\.epochs \(5 or 9\)"
    ):
        paper_table("table1", [*arm(records, "none"), *longer], None, 0.95)


def test_figures_that_were_measured_differently_are_refused(records):
    none = arm(records, "none")
    other = replace(none[1], conditions={**none[1].conditions, "summary.source": "elsewhere"})
    message = r"not measured alike: summary\.source \(embedded in scikit-learn or elsewhere\)"
    with pytest.raises(ReldropError, match=message):
        table_of_settings([none[0], other], [TOP1], 0.95)
    moved = [replace(run, conditions=other.conditions) for run in arm(records, "reldrop_block")]
    with pytest.raises(ReldropError, match=message):
        paper_table("table1", [*none, *moved], None, 0.95)
    silent = [replace(run, conditions={}) for run in moved]
    assert paper_table("table1", [*none, *silent], None, 0.95).cells[2].summary.n == 3


def test_best_only_where_the_seeds_support_it(records):
    none, block = arm(records, "none")[0], arm(records, "reldrop_block")[0]
    random = arm(records, "random_erasing")[0]

    def best(of_none, of_random, of_block, score=TOP1):
        runs = ((none, of_none), (random, of_random), (block, of_block))
        cells = [Cell(score, run.augmentation, arm_of(on_seeds(run, values), "")) for run, values in runs]
        compare_all(cells, 0.95)
        return [cell.augmentation for cell in cells if cell.is_best]

    low, middle, high = (0.50, 0.52, 0.51), (0.60, 0.62, 0.605), (0.70, 0.72, 0.715)
    assert best(low, middle, high) == ["reldrop_block"]
    assert best(low, high, middle) == ["random_erasing"]
    assert best(low, middle, middle) == []  # no better than the other
    assert best(low[:2], middle[:2], high[:2]) == []  # too few seeds
    assert best(low, middle, (0.59, 0.90, 0.70)) == []  # best on average, but not clearly
    assert best(low, middle, high, Score("test/top1", better="lower")) == ["none"]


def test_the_baseline_of_an_arm_with_another_attribution(records):
    """An arm without relevance may stand for any attribution; where it was run for each, the same is taken."""
    none, block = arm(records, "none"), arm(records, "reldrop_block")
    official = {"attribution__name": "release"}
    scores = [TOP1]
    one = table_of_settings([*none, *block, *(changed(run, **official) for run in block)], scores, 0.95)
    assert [
        "none" in row.cells[0].comparisons for row in one.rows if row.labels["augmentation"] == "reldrop_block"
    ] == [True, True]
    lower = [changed(run, figures={"test/top1": 0.0}, **official) for run in none]
    two = table_of_settings([*none, *lower, *block, *(changed(run, **official) for run in block)], scores, 0.95)
    rows = [row.cells[0] for row in two.rows if row.labels["augmentation"] == "reldrop_block"]
    assert len({round(cell.comparisons["none"].difference, 6) for cell in rows}) == 2
    area = {"augmentation__scale": [0.02, 0.1]}
    random = arm(records, "random_erasing")
    small = [changed(run, figures={"test/top1": 0.0}, **area) for run in random]
    three = table_of_settings([*random, *small, *block, *(changed(run, **area) for run in block)], scores, 0.95)
    rows = [row.cells[0] for row in three.rows if row.labels["augmentation"] == "reldrop_block"]
    expected = [mean_of(block[:2]), mean_of(block[:2]) - mean_of(random)]
    differences = [cell.comparisons["random occlusion"].difference for cell in rows]
    assert sorted(differences) == pytest.approx(sorted(expected))

"""Titles, units and directions of figures."""

import pytest

from reldrop.metrics.registry import METRICS, Metric, current_key, describe, find


@pytest.mark.parametrize(
    ("key", "metric"),
    [
        ("test/top1", Metric("test, last", "percent", "higher")),
        ("test/generalization_gap", Metric("train - test", "percent", "lower")),
        ("validation/class_mean", Metric("validation mean class accuracy", "percent", "higher")),
        ("clean.aurra", Metric("AURRA", "percent", "higher")),
        ("evaluation.clean.aurra", Metric("AURRA", "percent", "higher")),
        ("blocks.center.mean", Metric("block, center", "percent", "higher")),
        ("evaluation.blocks.relevant.0.05", Metric("block, most relevant, area 0.05", "percent", "higher")),
        ("zero_shot.imagenet_a.top1", Metric("ImageNet-A", "percent", "higher")),
        ("zero_shot.imagenet_o.fpr95", Metric("ImageNet-O, FPR95", "percent", "lower")),
        ("evaluation.spread.effective_features", Metric("effective features", "plain", "none")),
    ],
)
def test_known_metrics(key, metric):
    assert find(key) == metric


@pytest.mark.parametrize("key", ["gap_closed", "my_top1", "evaluation.mine.loss", "blocks", "imagenet_a"])
def test_nothing_is_guessed_from_a_name(key):
    assert find(key) is None


def test_a_metric_of_your_own(monkeypatch):
    monkeypatch.setitem(METRICS, "gap_closed", Metric("gap closed", "percent", "higher"))
    assert find("evaluation.gap_closed").better == "higher"


def test_keys_of_earlier_versions():
    assert current_key("clean/generalisation_gap") == "clean.generalization_gap"
    assert current_key("evaluation.blocks.centre.0.1") == "evaluation.blocks.center.0.1"


def test_figures_in_words():
    figures = {"clean": {"top1": 0.5, "aurra": float("nan")}, "spread": {"gini": 0.58349}, "samples": 20, "name": "x"}
    assert describe(figures) == "test accuracy 50.00 %; AURRA -\nGini index of relevance 0.5835\nsamples 20"
    assert describe({"mine": 1.5, "is_on": True}) == "mine 1.5"


def test_labels_and_values():
    gap = find("test/generalization_gap")
    assert gap.label == "train - test (%)"
    assert gap.format(0.0123, signed=True) == "+1.23"
    assert find("train/loss").format(1.23456) == "1.235"

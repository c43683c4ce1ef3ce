"""Accuracies of classes, by hand."""

import pytest
import torch

from reldrop.metrics.accuracy import ClassCounts, ranks


def test_counts_by_hand() -> None:
    counts = ClassCounts(7)
    order = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [1, 0, 2, 3, 4, 5, 6], [2, 0, 1, 3, 4, 6, 5]])
    logits = torch.zeros(4, 7).scatter_(1, order, torch.arange(7, 0, -1).float().expand(4, 7))
    labels = torch.tensor([0, 0, 0, 5])  # ranks 0, 6, 1, 6
    assert ranks(logits, labels).tolist() == [0, 6, 1, 6]
    counts.update(logits[:3], labels[:3])
    counts.update(logits[3:], labels[3:])
    figures = counts.compute()
    assert figures["top1"] == 1 / 4
    assert figures["top5"] == 2 / 4
    assert figures["class_mean"] == pytest.approx((1 / 3 + 0) / 2)  # of the two classes that have samples


def test_equal_logits_are_taken_in_the_order_of_classes() -> None:
    counts = ClassCounts(6)
    counts.update(torch.zeros(6, 6), torch.arange(6))
    assert counts.compute() == pytest.approx({"top1": 1 / 6, "top5": 5 / 6, "class_mean": 1 / 6})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_correct(value: float) -> None:
    counts = ClassCounts(2)
    counts.update(torch.tensor([[value, value], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert counts.compute() == {"top1": 0.5, "top5": 0.5, "class_mean": 0.5}


def test_few_classes_are_all_among_the_first_five() -> None:
    counts = ClassCounts(3)
    counts.update(torch.randn(20, 3), torch.arange(20) % 3)
    assert counts.compute()["top5"] == 1

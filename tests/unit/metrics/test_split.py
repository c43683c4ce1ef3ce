"""Metrics of one's own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reldrop.metrics import registry
from reldrop.metrics.split import SplitMetric, check_metrics, described, measure
from reldrop.utils.errors import ReldropError


class Mistakes(SplitMetric):
    title, unit, better = "mistakes", "percent", "lower"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) != targets).double().mean()


class Returns(SplitMetric):
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, logits: Tensor, targets: Tensor) -> Any:
        return self.value


class Fails(SplitMetric):
    def __call__(self, logits: Tensor, targets: Tensor) -> float:
        return [0.0][1]


def test_the_batches_of_a_split_are_measured_together() -> None:
    logits = [torch.eye(3), torch.eye(3)[:1]]
    assert measure({"mistakes": Mistakes()}, logits, [torch.tensor([0, 1, 1]), torch.tensor([0])]) == {"mistakes": 0.25}
    assert measure({}, [], []) == {}


@pytest.mark.parametrize(
    ("metric", "promise"),
    [
        (Returns(None), "metric own returns a NoneType; it must return one number"),
        (Returns(True), "returns a bool"),
        (Returns(torch.zeros(2)), "returns a Tensor"),
        (Fails(), r"metric own fails: IndexError: list index out of range \(.*test_split.py, line"),
        (print, "metric own is a builtin_function_or_method; it must be a reldrop.metrics.split.SplitMetric"),
    ],
)
def test_a_metric_that_breaks_a_promise_is_refused(metric: Any, promise: str) -> None:
    check_metrics({"mistakes": Mistakes(), "three": Returns(3), "array": Returns(np.float32(3))}, 10)
    with pytest.raises(ReldropError, match=promise):
        check_metrics({"own": metric}, 10)


@pytest.mark.parametrize("name", ["top1", "loss", "class_mean", "a.b", "a b"])
def test_names_of_our_figures_are_not_taken(name: str) -> None:
    with pytest.raises(ReldropError, match=f"monitor.metrics.{name} needs another name"):
        check_metrics({name: Mistakes()}, 10)


def test_a_run_brings_its_metrics_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METRICS", dict(registry.METRICS))
    own = described({"mistakes": Mistakes(), "untitled": Returns(3)}, ("train", "test"))
    assert list(own) == ["train/mistakes", "test/mistakes", "train/untitled", "test/untitled"]
    registry.learn({**own, "test/top1": {"title": "not ours"}})
    assert registry.find("test/mistakes") == registry.Metric("test mistakes", "percent", "lower")
    assert registry.find("summary.train/untitled") == registry.Metric("train untitled", "plain", "none")
    assert registry.find("test/top1").title == "test, last"

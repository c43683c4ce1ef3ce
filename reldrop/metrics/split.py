"""Metrics of one's own: figures of a whole split, measured after each epoch of a training."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from reldrop.distributed.launch import gather
from reldrop.metrics.registry import OURS, SPLITS, Better, Metric, Unit
from reldrop.utils.errors import ReldropError, raised


class SplitMetric:
    """A figure of a split. Subclass it for one of your own; override `__call__`, and say what the figure is.

    Attributes:
        title, unit, better: see `Metric`.
    """

    title: str = ""
    unit: Unit = "plain"
    better: Better = "none"

    def __call__(self, logits: Tensor, targets: Tensor) -> float:
        """Return the figure of N samples in any order: logits, float32 (N, K), and classes, int64 (N,), on the CPU."""
        raise NotImplementedError


def measure(
    metrics: Mapping[str, SplitMetric], logits: Sequence[Tensor], targets: Sequence[Tensor]
) -> dict[str, float]:
    """Return the figure of each metric by its name, of the batches of all processes, each of which calls it.

    Args:
        logits: of each batch of this process, float32 (B, K), on the CPU.
        targets: likewise, int64 (B,).

    Raises:
        ReldropError: a metric fails or returns no number, naming it.
    """
    if not metrics:
        return {}
    batches = [batch for process in gather(list(zip(logits, targets, strict=True))) for batch in process]
    samples = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return {name: _figure(name, metric, *samples) for name, metric in metrics.items()}


def described(metrics: Mapping[str, SplitMetric], splits: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return title, unit and direction of each figure that a run measures, SPLIT/NAME -> those, for its summary."""
    return {
        f"{split}/{name}": vars(Metric(f"{split} {metric.title or name}", metric.unit, metric.better))
        for name, metric in metrics.items()
        for split in splits
    }


def check_metrics(metrics: Mapping[str, Any], num_classes: int) -> None:
    """Refuse metrics that break a promise, tried on four samples.

    Raises:
        ReldropError: naming the metric and the promise.
    """
    logits = torch.randn(4, num_classes, generator=torch.Generator().manual_seed(0))
    for name, metric in metrics.items():
        if not name.isidentifier() or {f"{split}/{name}" for split in SPLITS} & OURS:
            raise ReldropError(f"monitor.metrics.{name} needs another name: of letters, digits and _, and none of ours")
        if not isinstance(metric, SplitMetric):
            kind = type(metric).__name__
            raise ReldropError(f"metric {name} is a {kind}; it must be a reldrop.metrics.split.SplitMetric")
        _figure(name, metric, logits, torch.arange(4) % num_classes)


def _figure(name: str, metric: SplitMetric, logits: Tensor, targets: Tensor) -> float:
    try:
        figure = metric(logits.clone(), targets.clone())
    except Exception as error:
        raise ReldropError(f"metric {name} fails: {raised(error)}") from error
    if isinstance(figure, Tensor) and figure.numel() == 1:
        figure = figure.item()
    if isinstance(figure, bool) or not isinstance(figure, Real):
        raise ReldropError(f"metric {name} returns a {type(figure).__name__}; it must return one number")
    return float(figure)

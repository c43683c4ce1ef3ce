"""Accuracy on clean samples."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from reldrop.data.base import Batch
from reldrop.metrics.accuracy import ClassCounts
from reldrop.metrics.split import SplitMetric, measure


@torch.inference_mode()
def accuracies(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
    metrics: Mapping[str, SplitMetric],
) -> dict[str, float]:
    """Return top1, top5 and class_mean over all samples of all processes, in [0, 1], see `ClassCounts`; and `metrics`.

    Args:
        predict: inputs (B, ...) -> logits (B, num_classes).
        batches: of this process; perhaps none.
        num_classes: of the data set.
        device: of the batches.
        metrics: of the user's own, by name.
    """
    counts, logits, targets = ClassCounts(num_classes, device), [], []
    for batch in batches:
        counts.update(found := predict(batch.inputs), batch.targets)
        if metrics:
            logits.append(found.float().cpu())
            targets.append(batch.targets.cpu())
    return {**counts.compute(), **measure(metrics, logits, targets)}

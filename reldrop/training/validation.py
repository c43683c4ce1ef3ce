"""Accuracy on clean samples."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from reldrop.data.base import Batch
from reldrop.metrics.accuracy import ClassCounts


@torch.inference_mode()
def accuracies(
    predict: Callable[[Tensor], Tensor], batches: Iterable[Batch], num_classes: int, device: torch.device
) -> dict[str, float]:
    """Return top1, top5 and class_mean over all samples of all processes, in [0, 1], see `ClassCounts`.

    Args:
        predict: inputs (B, ...) -> logits (B, num_classes).
        batches: of this process; perhaps none.
        num_classes: of the data set.
        device: of the batches.
    """
    counts = ClassCounts(num_classes, device)
    for batch in batches:
        counts.update(predict(batch.inputs), batch.targets)
    return counts.compute()

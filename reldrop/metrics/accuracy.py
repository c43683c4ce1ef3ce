"""Accuracy and confidence, also of a network that is restricted to some of its classes."""

import torch
import torch.distributed as dist
from torch import Tensor

from reldrop.utils.errors import ReldropError


def restrict(logits: Tensor, labels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Leave only the logits of `classes`, and count the labels in these.

    This is how ImageNet-A and -R are evaluated: softmax and argmax run over the classes of the set, as if the network had
    no others.

    Args:
        logits: (N, C).
        labels: int64 (N,), each one of `classes`.
        classes: int64 (c,), ascending, in [0, C).

    Returns:
        Logits (N, c) and labels int64 (N,) in [0, c).

    Raises:
        ReldropError: a label is none of `classes`.
    """
    places = (classes < labels[:, None]).sum(1).clamp(max=len(classes) - 1)
    if not (classes[places] == labels).all():
        raise ReldropError(f"class {int(labels[classes[places] != labels][0])} is none of the {len(classes)} classes")
    return logits[:, classes], places


def confidences(logits: Tensor) -> Tensor:
    """Return the largest softmax probability of each row of logits (N, C), float64 (N,) in [1 / C, 1].

    Raises:
        ReldropError: a logit is not finite.
    """
    _check(logits)
    return logits.double().softmax(1).amax(1)


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the true one, int64 (N,) in [0, C); 0 is a correct prediction.

    Equal logits are taken in the order of their classes, so that exactly one class is predicted and the result does not
    depend on how a device sorts.

    Args:
        logits: (N, C).
        labels: int64 (N,) in [0, C).

    Raises:
        ReldropError: a logit is not finite; it would compare as neither larger nor smaller.
    """
    _check(logits)
    return _ranks(logits, labels)


def _ranks(logits: Tensor, labels: Tensor) -> Tensor:
    true = logits.gather(1, labels[:, None])
    above = (logits > true).sum(1)
    equal = logits == true
    earlier = equal.cumsum(1).gather(1, labels[:, None])[:, 0] - 1
    return above + earlier


def top_k(ranks: Tensor, k: int) -> float:
    """Return the share of samples whose true class is among the first `k`, from their `ranks` (N,)."""
    return (ranks < k).double().mean().item()


def class_mean(correct: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the accuracies in them, from `correct`, bool (N,), and labels, int64 (N,).

    A class without samples has no accuracy.
    """
    sizes = labels.bincount()
    hits = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, labels, correct.double())
    return (hits / sizes)[sizes > 0].mean().item()


class ClassCounts:
    """Counts, for each of K classes, its samples and those that are predicted correctly, over batches and processes.

    Ties are taken as in `ranks`. Logits that are not finite are no correct prediction.

    Args:
        num_classes: K.
        device: of the logits.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(num_classes, 3, dtype=torch.int64, device=device)  # samples, top-1 and top-5 hits

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits (B, K) and labels int64 (B,)."""
        rank = _ranks(logits, labels).where(logits.isfinite().all(1), 5)  # 5: not among the first five
        self.counts.index_add_(0, labels, torch.stack([rank >= 0, rank < 1, rank < 5], 1).long())

    def compute(self) -> dict[str, float]:
        """Return top1, top5, and class_mean, the mean of top-1 over the classes that have samples; all in [0, 1].

        All processes call it, and get the same.
        """
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.counts)
        samples, top1, top5 = self.counts.double().T
        return {
            "top1": (top1.sum() / samples.sum()).item(),
            "top5": (top5.sum().float() / samples.sum().float()).item(),
            "class_mean": (top1 / samples)[samples > 0].mean().item(),
        }


def _check(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise ReldropError("the network returns values that are not finite; try precision=32-true")

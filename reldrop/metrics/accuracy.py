"""Accuracy and confidence, also of a network that is restricted to some of its classes."""

import torch
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


def _check(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise ReldropError("the network returns values that are not finite; try precision=32-true")

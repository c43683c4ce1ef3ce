"""Occlusion: in which order features are hidden, and what a network still recognizes of what is left.

An order is given by ranks, int64 (B, P): the place of each of the P pixels or points in it, from 0.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reldrop.metrics.accuracy import ranks
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, uniform_of_items


def hits(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the true class is predicted, bool (B,), and its softmax probability, float64 (B,)."""
    return ranks(logits, targets) == 0, logits.double().softmax(1).gather(1, targets[:, None])[:, 0]


def feature_ranks(values: Tensor) -> Tensor:
    """Return the ranks of pixels or points by `values` (B, ...), the largest first; of equal ones, the first comes first."""
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def random_ranks(items: Tensor, features: int, draw: int, seed: int = 0) -> Tensor:
    """Return the ranks of random orders, which depend on `draw`, the seed and the sample's number alone."""
    return feature_ranks(uniform_of_items(items, features, derive_seed(seed, "random order", draw)))


def nearness_ranks(xyz: Tensor, center: Tensor) -> Tensor:
    """Return the ranks of points (B, N, 3) by their distance from a point (B, 3).

    The first n are in the smallest ball around it that holds n points.
    """
    return feature_ranks(-(xyz - center[:, None]).square().sum(-1))


def step_counts(features: int, steps: int) -> list[int]:
    """Return how many features are hidden after 1 to `steps` equal steps; in the end all.

    Raises:
        ReldropError: there are not that many features.
    """
    if not 1 <= steps <= features:
        raise ReldropError(
            f"steps={steps} must be a whole number from 1 to the {features} pixels or points of a sample"
        )
    return [round(features * step / steps) for step in range(1, steps + 1)]


def most_first(order: Tensor, counts: Sequence[int], shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield, for each count, the mask `(B, *shape)` of that many features of the lowest ranks."""
    for count in counts:
        yield (order < count).view(shape)


def least_first(order: Tensor, counts: Sequence[int], shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield, for each count, the mask `(B, *shape)` of that many features of the highest ranks."""
    for count in counts:
        yield (order >= order.shape[1] - count).view(shape)


def occlusion_auc(curve: Tensor) -> Tensor:
    """Return the area under curves (..., T + 1) at equal steps, by trapezoids, divided by T: in the unit of the curve."""
    return torch.trapezoid(curve.double(), dim=-1) / (curve.shape[-1] - 1)

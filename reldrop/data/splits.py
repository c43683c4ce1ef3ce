"""Fixed choices of items that keep the classes in balance. They depend on the data only, never on a run's seed."""

import torch
from torch import Tensor

from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator


def _ranked(labels: Tensor, stream: str) -> tuple[Tensor, Tensor]:
    """Return a random order of the items, and the rank of each item of that order within its class (0, 1, ...)."""
    order = torch.randperm(len(labels), generator=generator(0, stream))
    shuffled = labels[order]
    by_class = shuffled.argsort(stable=True)
    sizes = labels.bincount()
    firsts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - firsts[shuffled[by_class]]
    return order, rank


def stratified_subset(labels: Tensor, count: int | None, setting: str, item: str = "image") -> Tensor:
    """Choose `count` items, as many of one class as of another as far as they go.

    A smaller choice is part of a larger one.

    Args:
        labels: (N,) int64.
        count: how many; None for all.
        setting: name of the setting that asks for it, for the message; `item` is the word for one of them there.

    Returns:
        Their indices, ascending.

    Raises:
        ReldropError: `count` is not a whole number from 1 to N.
    """
    if count is None:
        return torch.arange(len(labels))
    if not 1 <= count <= len(labels):
        raise ReldropError(
            f"{setting}={count} must be a whole number of {item}s from 1 to the {len(labels)} there are, "
            "or null for all of them"
        )
    order, rank = _ranked(labels, setting)
    return order[rank.argsort(stable=True)[:count]].sort().values


def stratified_split(labels: Tensor, count: int, stream: str) -> tuple[Tensor, Tensor]:
    """Set `count` items aside, of each class the same share.

    Returns:
        Indices of the items that stay and of those set aside, each ascending.
    """
    order, rank = _ranked(labels, stream)
    share = (rank + 0.5) / labels.bincount()[labels[order]]
    order = order[share.argsort(stable=True)]
    return order[count:].sort().values, order[:count].sort().values

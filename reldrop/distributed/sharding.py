"""What each of several processes takes of a batch.

All of them go through the same batches in the same order and make the same draws for whole batches; each then keeps its
own rows. So what is trained on does not depend on their number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """The rows that a process has of a batch.

    Attributes:
        count: items of the whole batch.
        start, stop: its rows.
        items: for how many items it answers in sums over all processes, see `BatchSharder.shard`.
    """

    count: int
    start: int
    stop: int
    items: int

    @classmethod
    def whole(cls, count: int) -> "Shard":
        """Return all rows of a batch."""
        return cls(count, 0, count, count)

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """Of the batch, what it answers for, in [0, 1]."""
        return self.items / self.count

    def local_slice(self, chosen: Tensor) -> slice:
        """Return which of `chosen`, rows of the whole batch in ascending order on the CPU, are its own."""
        first, last = torch.searchsorted(chosen, torch.tensor([self.start, self.stop])).tolist()
        return slice(first, last)


@dataclass(frozen=True)
class BatchSharder:
    """What one of several processes takes of every batch."""

    rank: int = 0
    processes: int = 1

    def shard(self, count: int) -> Shard:
        """Return its part of a batch of `count` items: consecutive ones, as many as others have, or one more.

        Of a batch that does not give each process two items, which batch norm needs, all take the whole; the first
        process alone answers for it, and the others merely keep in step.
        """
        if count < 2 * self.processes:
            return Shard(count, 0, count, 0 if self.rank else count)
        start, stop = (count * rank // self.processes for rank in (self.rank, self.rank + 1))
        return Shard(count, start, stop, stop - start)

    def split(self, order: Tensor, batch_size: int) -> list[Tensor]:
        """Return its part of each batch of an epoch's order."""
        return [batch[self.shard(len(batch)).rows] for batch in order.split(batch_size)]

    def batches(self, order: Tensor, batch_size: int) -> Tensor:
        """Return the items of every so-many-th batch of an order, whole: to evaluate each item once, in its batch."""
        return torch.cat([order[:0], *order.split(batch_size)[self.rank :: self.processes]])


ALL = BatchSharder()

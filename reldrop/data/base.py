"""`Data`: what training and evaluation read of a data set, whatever its inputs are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from reldrop.data.splits import stratified_subset
from reldrop.distributed.sharding import ALL, BatchSharder, Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, generator

if TYPE_CHECKING:
    from reldrop.data.images.batch_crops import Crops


class Batch(NamedTuple):
    """Some items of a split, as a network takes them, on the device of the data.

    Attributes:
        inputs: float32 (b, C, H, W) or (b, P, C).
        targets: classes, int64 (b,).
        items: which items of the split they are, int64 (b,).
        shard: which rows of the whole batch they are; all of them unless several processes share it.
        crops: of training images: where each is cropped, and whether it is flipped.
    """

    inputs: Tensor
    targets: Tensor
    items: Tensor
    shard: Shard
    crops: "Crops | None" = None


# Makes network inputs of a training batch: (items as they are stored, number of the batch, place in the epoch's order of
# the first item of the whole batch, shard) -> (inputs, crops).
Collate = Callable[[Tensor, int, int, Shard], "tuple[Tensor, Crops | None]"]


@dataclass(eq=False)
class Split:
    """The N items of one split in memory.

    Attributes:
        stored: (N, ...), perhaps mapped from a file.
        labels: int64 (N,).
    """

    stored: Any
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Self:
        return type(self)(self.stored[indices].contiguous(), self.labels[indices])

    def to(self, device: torch.device | str) -> Self:
        """Move the labels, and the items where they are in memory, to `device`."""
        if isinstance(self.stored, Tensor):
            self.stored = self.stored.to(device)
        self.labels = self.labels.to(device)
        return self

    def batches(
        self, order: Tensor, batch_size: int, sharder: BatchSharder = ALL, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the items of `order`, int64 on the CPU, as they are stored, and which they are, on the split's device.

        Args:
            sharder: which rows of each batch to yield.
            seed: for training, of what is drawn as items are read; None for evaluation.
        """
        if len(order):  # split() would make an empty batch of no items
            for index in sharder.split(order.to(self.labels.device), batch_size):  # moved once: each copy would wait
                yield self.stored[index], index


class Data:
    """Base of the data sets. A subclass says what its inputs are and overrides `collate`.

    Attributes:
        kind: of the inputs, "images" or "points".
        unit: the word for one of them in messages.
        name: of the data set.
        classes: names of the classes, in the order of the labels.
        source: where it was read from.
        train, test: the splits.
        validation: split held out of the training items, if any.

    Raises:
        ReldropError: there are too few items to train on.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]

    name: str
    classes: tuple[str, ...]
    source: str
    train: Any
    test: Any
    validation: Any

    def __post_init__(self) -> None:
        self.classes = tuple(self.classes)
        if len(self.train) < 2:
            raise ReldropError(f"{self.name} has {len(self.train)} training {self.unit}; training needs at least 2")

    @property
    def num_classes(self) -> int:
        """At least 2, else it raises `ReldropError`."""
        if len(self.classes) < 2:
            raise ReldropError(f"{self.name} has {len(self.classes)} class; classification needs at least 2")
        return len(self.classes)

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """Keyword arguments about the data for a backbone."""
        raise NotImplementedError

    @property
    def augmentation_kwargs(self) -> dict[str, Any]:
        """What an augmentation gets to know of the data, if it has a parameter for it: the number of classes."""
        return {"num_classes": self.num_classes}

    def dummy_input(self) -> Tensor:
        """Return a batch of one input, on the CPU, to check a network with."""
        raise NotImplementedError

    def collate(self, epoch: int, seed: int) -> Collate:
        """Return the function that makes the training batches of an epoch; what it draws depends on epoch and seed alone."""
        return lambda stored, number, first, shard: (self.normalize(stored), None)

    def normalize(self, stored: Tensor) -> Tensor:
        """Turn items as a split yields them into network inputs."""
        return stored

    def transform(self, inputs: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """Return training inputs as they are after their occlusion; here unchanged.

        Args:
            inputs: (B, ...), on any device.
            generator: on the CPU.
            shard: which rows of a batch the inputs are: the draws are those for the whole batch. None if they are all.
        """
        return inputs

    def to(self, device: torch.device | str) -> Self:
        """Move what is in memory to `device`, where batches then come from."""
        for split in (self.train, self.test, self.validation):
            if split is not None:
                split.to(device)
        return self

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return how many batches `train_batches` has."""
        return -(-self._items_per_epoch(batch_size) // batch_size)

    def train_batches(
        self, epoch: int, *, batch_size: int, seed: int, start: int = 0, sharder: BatchSharder = ALL
    ) -> Iterator[Batch]:
        """Yield the training items of an epoch, counted from 0, shuffled, each once.

        All draws depend on the seed, the epoch and the place in it: the batches from `start` on are the same for every
        `start`, any number of workers and any number of processes.

        Args:
            batch_size: items a batch. The last batch has what is left, but a single item is left out, since batch norm
                cannot train on one.
            seed: of the run.
            start: number of batches to skip.
            sharder: which rows of each batch to yield; they are the same as in the whole batch.

        Raises:
            ReldropError: an item cannot be read.
        """
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch))
        order = order[start * batch_size : self._items_per_epoch(batch_size)]
        if not len(order):
            return
        shards = [sharder.shard(len(batch)) for batch in order.split(batch_size)]
        collate = self.collate(epoch, seed)
        stored = self.train.batches(order, batch_size, sharder, derive_seed(seed, "resized crop", epoch))
        for number, (shard, (items, indices)) in enumerate(zip(shards, stored, strict=True), start):
            inputs, crops = collate(items, number, number * batch_size, shard)
            yield Batch(inputs, self.train.labels[indices], indices, shard, crops)

    def eval_batches(
        self, split: str, *, batch_size: int, limit: int | None = None, sharder: BatchSharder = ALL
    ) -> Iterator[Batch]:
        """Yield the items of a split, train, validation or test, in a fixed order.

        Args:
            limit: only that many items, evenly over the classes, the same ones for every run; None for all.
            sharder: which batches to yield, each process others and none twice. One may have none.

        Raises:
            ReldropError: there is no such split, `limit` is below 1, or an item cannot be read.
        """
        chosen = self._split(split)
        if limit is not None and limit < 1:
            raise ReldropError(f"cannot evaluate {limit} {self.unit}s of the {split} split; ask for at least 1")
        count = None if limit is None else min(limit, len(chosen))
        order = stratified_subset(chosen.labels.cpu(), count, "limit", self.unit)
        for stored, indices in chosen.batches(sharder.batches(order, batch_size), batch_size):
            yield Batch(self.normalize(stored), chosen.labels[indices], indices, Shard.whole(len(indices)))

    def _items_per_epoch(self, batch_size: int) -> int:
        items = len(self.train)
        return items - 1 if batch_size > 1 and items % batch_size == 1 else items

    def _split(self, name: str) -> Split:
        if name not in ("train", "validation", "test"):
            raise ReldropError(f"{self.name} has no split {name!r}; choose train, validation or test")
        if (split := getattr(self, name)) is None:
            raise ReldropError(
                f"{self.name} has no validation split; hold some {self.unit}s out: dataset.validation=0.1"
            )
        return split

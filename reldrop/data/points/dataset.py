"""`PointData`: a data set of point clouds as training and evaluation see it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from reldrop.data.base import Collate, Data
from reldrop.data.points.transforms import PointTransform
from reldrop.distributed.sharding import ALL, BatchSharder, Shard
from reldrop.utils.point_ops import gather_points
from reldrop.utils.seeding import device_generator, generator

Points = Annotated[int, Ge(2)]  # of a cloud


@dataclass(eq=False)
class PointSplit:
    """The N clouds of one split.

    Attributes:
        points: float32 (N, P, C), x, y, z and with C = 6 the normal of each point; perhaps mapped from a file.
        labels: int64 (N,).
    """

    points: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "PointSplit":
        """Move the clouds and their labels to `device`."""
        self.points, self.labels = self.points.to(device), self.labels.to(device)
        return self

    def batches(self, order: Tensor, batch_size: int, sharder: BatchSharder = ALL) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the clouds of `order`, int64 on the CPU, and which they are.

        Yields:
            Clouds float32 (b, P, C) and their indices int64 (b,), on the split's device.
        """
        if not len(order):
            return  # split() would make one empty batch of it
        for index in sharder.split(order.to(self.labels.device), batch_size):  # moved once, as each copy would wait
            yield self.points[index], index


@dataclass(eq=False)
class PointData(Data):
    """A data set of point clouds for classification, each of P points, centered and scaled to the unit ball.

    Attributes:
        name: of the data set.
        classes: names of the classes, in the order of the labels.
        source: where it was read from.
        train: training clouds.
        test: test clouds.
        validation: clouds held out of the training clouds, if any.
        perturbation: what training does to clouds, after their occlusion.

    Raises:
        ReldropError: there are too few clouds to train on.
    """

    kind: ClassVar[str] = "points"
    unit: ClassVar[str] = "cloud"

    name: str
    classes: tuple[str, ...]
    source: str
    train: PointSplit
    test: PointSplit
    validation: PointSplit | None = None
    perturbation: PointTransform = field(default_factory=PointTransform)

    @property
    def channels(self) -> int:
        """6 with normals, 3 without."""
        return self.train.points.shape[2]

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """What a backbone is told: number of classes and of channels."""
        return {"num_classes": self.num_classes, "channels": self.channels}

    def dummy_input(self) -> Tensor:
        """Return the first training cloud, (1, P, C), on the CPU."""
        return self.train.points[:1].cpu()

    def transform(self, inputs: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """Return a batch (B, P, C) rotated, scaled, shifted and jittered, as `perturbation` says."""
        return self.perturbation(inputs, generator, shard)

    def collate(self, epoch: int, seed: int) -> Collate:
        """Return the function that puts the points of each training cloud of an epoch in random order.

        A network's farthest point sampling starts at the first point, and random point dropout turns points into copies
        of it. Shuffled here, the first point is another one in each epoch, but the same one for the attribution of a
        batch and for the training step on it. In evaluation it stays the same.
        """

        def shuffle(clouds: Tensor, number: int, first: int, shard: Shard) -> tuple[Tensor, None]:
            draws = device_generator(generator(seed, "points", epoch, number), clouds.device)
            keys = torch.rand(shard.count, clouds.shape[1], generator=draws, device=clouds.device)
            return gather_points(clouds, keys[shard.rows].argsort(1)), None

        return shuffle

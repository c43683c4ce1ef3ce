"""`PointData`: a data set of point clouds as training and evaluation see it; and what makes it of a listing."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from reldrop.data.base import Collate, Data, Split
from reldrop.data.points.listing import FileListing
from reldrop.data.points.synthetic import BodyListing
from reldrop.data.points.transforms import Axis, PointTransform, Range
from reldrop.data.readers import dataset
from reldrop.distributed.sharding import Shard
from reldrop.utils.machine import Machine
from reldrop.utils.point_ops import gather_points
from reldrop.utils.seeding import device_generator, generator
from reldrop.utils.types import Count, FractionBelowOne, NonNegative

Points = Annotated[int, Ge(2)]  # of a cloud


class PointSplit(Split):
    """The N clouds of one split: (points, labels)."""

    @property
    def points(self) -> Tensor:
        """float32 (N, P, C), x, y, z and with C = 6 the normal of each point."""
        return self.stored


@dataclass(eq=False)
class PointData(Data):
    """A data set of point clouds for classification, each of P points, centered and scaled to the unit ball.

    Attributes:
        name, classes, source, train, test, validation: see `Data`.
        perturbation: what training does to clouds, after their occlusion.
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


def load_points(
    listing: FileListing | BodyListing,
    *,
    name: str | None = None,
    points: Points = 1024,
    normals: bool = True,
    scale: Range | None = None,
    shift: NonNegative = 0.0,
    rotate: Axis | None = None,
    jitter: NonNegative = 0.0,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    machine: Machine = Machine(),
) -> PointData:
    """Choose from the clouds of a listing and load the chosen ones.

    Args:
        name: of the data set, in reports; None for that of the listing.
        points: of each cloud, chosen by farthest point sampling; clouds are then centered and scaled to the unit ball.
        normals: whether the inputs have the normals of the points, (x, y, z, nx, ny, nz), or only (x, y, z).
        scale, shift, rotate, jitter: what training does to clouds, see `PointTransform`.
        subset: number of training clouds, as evenly as possible of all classes; None for all.
        test_subset: likewise of the test clouds.
        validation: share of the training clouds held out before `subset` is chosen, in [0, 1).
        machine: where prepared clouds are kept, and how many processes read.

    Raises:
        ReldropError: files are damaged, or a setting is out of range.
    """
    transform = PointTransform(scale, shift, rotate, jitter)
    name = listing.name if name is None else name
    chosen = listing.choose(subset, test_subset, validation, PointData.unit)
    clouds = listing.read(chosen, name, points, normals, machine)
    splits = {split: PointSplit(clouds[split], listing.items(split).labels[index]) for split, index in chosen.items()}
    return PointData(name, listing.classes, listing.source, **splits, perturbation=transform)


point_dataset = dataset(load_points)

"""From a reader of point clouds to `PointData`."""

from reldrop.data.points.dataset import PointData, Points, PointSplit
from reldrop.data.points.listing import FileListing
from reldrop.data.points.synthetic import BodyListing
from reldrop.data.points.transforms import Axis, PointTransform, Range
from reldrop.data.readers import dataset
from reldrop.utils.machine import Machine
from reldrop.utils.types import Count, FractionBelowOne, NonNegative


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
    read = listing.prepare(name, points, normals, machine)
    splits = {}
    for split, indices in chosen.items():
        part = "test" if split == "test" else "train"  # validation clouds are of the training clouds
        splits[split] = PointSplit(read(part, indices), getattr(listing, part).labels[indices])
    return PointData(name, listing.classes, listing.source, **splits, perturbation=transform)


point_dataset = dataset(load_points)

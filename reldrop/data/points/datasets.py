"""The sets of point clouds that configurations name and that lie in files: each function reads one as `PointData`.

They share these parameters:
    root: folder that the data sets lie in.
    name: of the data set, in reports.
    cache_dir: folder that the prepared clouds are kept in: the first use samples all files, later ones map the result.
    points: of each cloud, chosen by farthest point sampling; clouds are then centered and scaled to the unit ball.
    normals: whether the inputs have the normals of the points, (x, y, z, nx, ny, nz), or only (x, y, z).
    scale, shift, rotate, jitter: what training does to clouds, see `PointTransform`.
    subset: number of training clouds, as evenly as possible of all classes; None for all.
    test_subset: likewise of the test clouds.
    validation: share of the training clouds held out before `subset` is chosen, in [0, 1).
    workers: processes that read files the first time; None for one a core, 0 for the calling process alone.

Which clouds are chosen depends on the data only, and all of them raise `ReldropError` for what its user can mend: data
that is not found, damaged or inconsistent, and settings out of range.
"""

from collections.abc import Sequence

from torch import Tensor

from reldrop.data.images.folders import class_names
from reldrop.data.paths import WHERE_ELSE, candidates, described, first, listed
from reldrop.data.points.cache import CacheSpec, load_or_build
from reldrop.data.points.dataset import PointData, Points, PointSplit
from reldrop.data.points.listing import (
    Listing,
    from_folders,
    from_h5,
    from_lists,
    from_shapenet,
    from_split_folders,
    read_names,
)
from reldrop.data.points.transforms import Axis, PointTransform, Range
from reldrop.data.splits import split_training, stratified_subset
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, FractionBelowOne, NonNegative, OpenFraction, WholeNumber, checked

MODELNET = (
    "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip",
    "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",
    "http://modelnet.cs.princeton.edu/ModelNet40.zip",
)
SHAPENET = "shapenetcore_partanno_segmentation_benchmark_v0_normal"


@checked
def modelnet(
    root: str,
    folders: Sequence[str],
    prefix: str,
    name: str,
    cache_dir: str,
    classes: Sequence[str] | None = None,
    points: Points = 1024,
    normals: bool = True,
    scale: Range | None = None,
    shift: NonNegative = 0.0,
    rotate: Axis | None = None,
    jitter: NonNegative = 0.0,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    workers: WholeNumber | None = None,
) -> PointData:
    """Read ModelNet, or any set in one of the three layouts that it is published in; the first one found is read.

    They are: text files CLASS/CLASS_NUMBER.txt with the lists PREFIX_shape_names.txt, PREFIX_train.txt and
    PREFIX_test.txt; HDF5 files with shape_names.txt, train_files.txt and test_files.txt; and meshes
    CLASS/train/*.off and CLASS/test/*.off.

    Args:
        folders: where to look, relative to `root`, in this order.
        prefix: of the names of the lists.
        classes: names of the classes that are used; None for all.
    """
    how, perturbation = CacheSpec(points, normals, cache_dir, workers), PointTransform(scale, shift, rotate, jitter)
    bases = candidates(root, folders)
    for base in bases:
        if (base / f"{prefix}_train.txt").is_file():
            listing = from_lists(base, prefix, read_names(base / f"{prefix}_shape_names.txt"), classes)
            source = described("point files", base)
        elif (base / "train_files.txt").is_file():
            listing, source = from_h5(base, classes), described("HDF5 files", base)
        elif any(base.glob("*/train/*.off")):
            listing, source = from_split_folders(base, classes), described("meshes", base)
        else:
            continue
        return _read(
            listing, source, name, how, perturbation, subset=subset, test_subset=test_subset, validation=validation
        )
    raise ReldropError(
        f"{name} not found: looked in {listed(bases)} for {prefix}_train.txt, train_files.txt or CLASS/train/*.off; put "
        f"it there (ModelNet: {', '.join(MODELNET)}), or {WHERE_ELSE}"
    )


@checked
def shapenet(
    root: str,
    folders: Sequence[str],
    name: str,
    cache_dir: str,
    points: Points = 1024,
    normals: bool = True,
    scale: Range | None = None,
    shift: NonNegative = 0.0,
    rotate: Axis | None = None,
    jitter: NonNegative = 0.0,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    workers: WholeNumber | None = None,
) -> PointData:
    """Read the 16 classes of ShapeNetPart with normals; its training and validation clouds are the training split.

    Args:
        folders: where to look, relative to `root`, in this order.
    """
    how, perturbation = CacheSpec(points, normals, cache_dir, workers), PointTransform(scale, shift, rotate, jitter)
    bases = candidates(root, folders)
    base = first(bases, lambda base: (base / "synsetoffset2category.txt").is_file())
    if base is None:
        raise ReldropError(
            f"{name} not found: looked in {listed(bases)} for synsetoffset2category.txt; unpack {SHAPENET} there, or "
            f"{WHERE_ELSE}"
        )
    return _read(
        from_shapenet(base),
        described("point files", base),
        name,
        how,
        perturbation,
        subset=subset,
        test_subset=test_subset,
        validation=validation,
    )


@checked
def point_folder(
    root: str,
    folder: str,
    cache_dir: str,
    name: str | None = None,
    lists: str | None = None,
    test_share: OpenFraction = 0.2,
    points: Points = 1024,
    normals: bool = True,
    scale: Range | None = None,
    shift: NonNegative = 0.0,
    rotate: Axis | None = None,
    jitter: NonNegative = 0.0,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    workers: WholeNumber | None = None,
) -> PointData:
    """Read any clouds and meshes from `folder`/CLASS/NAME, as .txt, .xyz, .npy, .ply or .off; see `read_cloud`.

    Args:
        folder: where they lie, relative to `root` or absolute.
        name: None for the name of the folder.
        lists: beginning of the names of LISTS_train.txt and LISTS_test.txt in `folder`, which have a cloud a line as
            CLASS/NAME or CLASS_NUMBER; None for a fixed split that keeps the classes in balance.
        test_share: share of the clouds set aside for testing where there are no lists, between 0 and 1.
    """
    how, perturbation = CacheSpec(points, normals, cache_dir, workers), PointTransform(scale, shift, rotate, jitter)
    (base,) = candidates(root, [folder])
    if not base.is_dir():
        raise ReldropError(
            f"point folder not found: looked in {listed([base])}; set dataset.folder to the folder that has the clouds, "
            "absolute or relative to data_dir"
        )
    if lists is None:
        listing = from_folders(base, test_share)
    else:
        listing = from_lists(base, lists, class_names(base, "clouds"))
    return _read(
        listing,
        described("point files", base),
        base.resolve().name if name is None else name,
        how,
        perturbation,
        subset=subset,
        test_subset=test_subset,
        validation=validation,
    )


def _read(
    listing: Listing,
    source: str,
    name: str,
    how: CacheSpec,
    perturbation: PointTransform,
    *,
    subset: int | None,
    test_subset: int | None,
    validation: float,
) -> PointData:
    """Choose from the clouds of a listing and load the chosen ones, prepared."""
    train, test = listing.labels("train"), listing.labels("test")
    kept, held_out = split_training(train, validation, subset, "cloud")
    tested = stratified_subset(test, test_subset, "test_subset", "cloud")
    clouds = load_or_build(listing, name, how)
    return PointData(
        name,
        listing.classes,
        source,
        _chosen(clouds["train"], train, kept),
        _chosen(clouds["test"], test, tested),
        None if held_out is None else _chosen(clouds["train"], train, held_out),
        perturbation,
    )


def _chosen(clouds: Tensor, labels: Tensor, indices: Tensor) -> PointSplit:
    if len(indices) == len(labels):
        return PointSplit(clouds, labels)  # indexing would copy what is mapped
    return PointSplit(clouds[indices], labels[indices])

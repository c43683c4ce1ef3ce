"""The data sets of point clouds that configurations name. Each function lists one; `point_dataset` loads it."""

from collections.abc import Sequence

from reldrop.data.paths import WHERE_ELSE, candidates, class_folders, first, listed, own_folder
from reldrop.data.points import listing
from reldrop.data.points.dataset import point_dataset
from reldrop.data.points.listing import FileListing
from reldrop.data.points.synthetic import BodyListing
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.types import OpenFraction, Text

MODELNET = (
    "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip",
    "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",
    "http://modelnet.cs.princeton.edu/ModelNet40.zip",
)
SHAPENET = "shapenetcore_partanno_segmentation_benchmark_v0_normal"


@point_dataset
def modelnet(
    folders: Sequence[str], prefix: str, classes: Sequence[str] | None = None, machine: Machine = Machine()
) -> FileListing:
    """Read ModelNet, or any set in one of the three layouts that it is published in; the first one found is read.

    They are: text files CLASS/CLASS_NUMBER.txt with the lists PREFIX_shape_names.txt, PREFIX_train.txt and
    PREFIX_test.txt; HDF5 files with shape_names.txt, train_files.txt and test_files.txt; and meshes
    CLASS/train/*.off and CLASS/test/*.off.

    Args:
        folders: where to look, relative to data_dir, in this order.
        prefix: of the names of the lists.
        classes: names of the classes that are used; None for all.
    """
    bases = candidates(machine.root, folders)
    for base in bases:
        if (base / f"{prefix}_train.txt").is_file():
            return listing.from_lists(base, prefix, listing.read_names(base / f"{prefix}_shape_names.txt"), classes)
        if (base / "train_files.txt").is_file():
            return listing.from_h5(base, classes)
        if any(base.glob("*/train/*.off")):
            return listing.from_split_folders(base, classes)
    raise ReldropError(
        f"{prefix} not found: looked in {listed(bases)} for {prefix}_train.txt, train_files.txt or CLASS/train/*.off; put "
        f"it there (ModelNet: {', '.join(MODELNET)}), or {WHERE_ELSE}"
    )


@point_dataset
def shapenet(folders: Sequence[str], machine: Machine = Machine()) -> FileListing:
    """Read the 16 classes of ShapeNetPart with normals; its training and validation clouds are the training split.

    `folders` are those to look in, relative to data_dir, in this order.
    """
    bases = candidates(machine.root, folders)
    base = first(bases, lambda base: (base / "synsetoffset2category.txt").is_file())
    if base is None:
        raise ReldropError(
            f"ShapeNetPart not found: looked in {listed(bases)} for synsetoffset2category.txt; unpack {SHAPENET} there, or "
            f"{WHERE_ELSE}"
        )
    return listing.from_shapenet(base)


@point_dataset
def point_folder(
    folder: Text, lists: Text | None = None, test_share: OpenFraction = 0.2, machine: Machine = Machine()
) -> FileListing:
    """Read any clouds and meshes from folders of classes, split into train and test or not, see `find_files`.

    Args:
        folder: that has the clouds, as .txt, .xyz, .npy, .ply or .off (see `read_cloud`); relative to
            data_dir or the current folder, or absolute.
        lists: beginning of the names of LISTS_train.txt and LISTS_test.txt in `folder`, which have a cloud a line as
            CLASS/NAME or CLASS_NUMBER; None for what the folders say.
        test_share: share of the clouds set aside for testing where there is no split, between 0 and 1.
    """
    base = own_folder(machine.root, folder)
    if lists is None or not base.is_dir():
        return listing.from_folders(base, test_share)
    return listing.from_lists(base, str(lists), tuple(class_folders(base, "clouds")))


@point_dataset
def shapes() -> BodyListing:
    """Generate ten kinds of bodies of random proportions and poses, slightly noisy, the same ones always."""
    return BodyListing.of()

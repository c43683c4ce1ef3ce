"""The image data sets that configurations name.

Each function below says what a data set has and where it is stored. `image_dataset` adds the settings that all of them
share (name, mean, std, crop_padding, flip, subset, test_subset, validation, machine; see `load_images`) and returns
`ImageData`. All raise `ReldropError` for data that are not found, damaged or inconsistent, and settings out of range.
"""

from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from reldrop.data.folders import find_files
from reldrop.data.images.dataset import ImageListing, ImageSplit, image_dataset
from reldrop.data.images.decoding import DecodeOptions
from reldrop.data.images.folders import SUFFIXES, class_files, label_files
from reldrop.data.paths import (
    WHERE_ELSE,
    Files,
    candidates,
    class_folders,
    described,
    first,
    listed,
    own_folder,
    read_lines,
)
from reldrop.data.splits import stratified_split
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.types import Count, OpenFraction, Text

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

DIGITS_TEST = 450  # of the 1,797
TABLE = "val_annotations.txt"  # of Tiny-ImageNet


@image_dataset
def digits() -> ImageListing:
    """Read the 8x8 grey digits that come with scikit-learn, in a fixed split of 1,347 to 450."""
    from sklearn.datasets import load_digits  # takes a second to import, and nothing else here needs it

    bunch = load_digits()
    pixels = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))[:, None]
    images = ImageSplit(pixels, torch.from_numpy(bunch.target).long())
    train, test = stratified_split(images.labels, DIGITS_TEST, "digits")
    classes = tuple(map(str, bunch.target_names))
    return ImageListing("digits", classes, images[train], images[test], "embedded in scikit-learn", size=8)


@image_dataset
def cifar(num_classes: Literal[10, 100], machine: Machine = Machine()) -> ImageListing:
    """Read CIFAR-10 or CIFAR-100, 32x32, from the official archive or from folders of image files.

    Both are looked for in the data folder and its folders cifar10 and cifar10_jpeg (cifar100 likewise): first the archive,
    packed or unpacked, then folders train/CLASS and test/CLASS. If neither is found, the archive is downloaded where the
    machine allows it.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # takes seconds to import, and no mistake needs it

    name = f"cifar{num_classes}"
    official = CIFAR10 if num_classes == 10 else CIFAR100
    bases = candidates(machine.root, [".", name, f"{name}_jpeg"])
    archive = first(bases, lambda base: (base / official.base_folder).is_dir() or (base / official.filename).is_file())
    folders = first(bases, lambda base: (base / "train").is_dir() and (base / "test").is_dir())
    if archive is not None or folders is None:
        parts = _archive(official, archive, bases, machine.download)
        train, test = (
            ImageSplit(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets)) for part in parts
        )
        return ImageListing(name, parts[0].classes, train, test, "official archive", size=32)
    classes = tuple(class_folders(folders / "train"))
    if len(classes) != num_classes:
        raise ReldropError(
            f"{folders / 'train'} has {len(classes)} class folders where CIFAR-{num_classes} has {num_classes}; "
            f"{WHERE_ELSE}"
        )
    train, test = (class_files(folders / split, classes) for split in ("train", "test"))
    return ImageListing(name, classes, train, test, described("image files", folders), size=32)


@image_dataset
def tiny_imagenet(folders: Sequence[str], machine: Machine = Machine()) -> ImageListing:
    """Read Tiny-ImageNet, 64x64, or some classes of it; its val images, in one folder or sorted, are the test split.

    Args:
        folders: where to look in the data folder, in this order.
    """
    bases = candidates(machine.root, folders)

    def sorted_val(base: Path) -> bool:
        return any((base / "train").glob("n*/images")) and any((base / "val").glob("n*/"))

    def table(base: Path) -> bool:
        return (base / "train").is_dir() and (base / "val" / TABLE).is_file()

    base = first(bases, lambda base: table(base) or sorted_val(base))
    if base is None:
        raise ReldropError(
            f"Tiny-ImageNet not found: looked in {listed(bases)} for train/WNID/images and val/{TABLE}; "
            f"unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or {WHERE_ELSE}"
        )
    classes, val = tuple(class_folders(base / "train")), base / "val"
    test = class_files(val, classes, classes) if sorted_val(base) else _annotated_files(val, classes)
    train, source = class_files(base / "train", classes), described("image files", base)
    return ImageListing("tiny_imagenet", classes, train, test, source, size=64)


@image_dataset
def image_folder(
    folder: Text,
    size: Count,
    grayscale: bool = False,
    test_share: OpenFraction = 0.2,
    machine: Machine = Machine(),
) -> ImageListing:
    """Read any images from folders of classes, split into train and test or not, see `find_files`.

    Args:
        folder: where they are, relative to the data folder or the current one, or absolute; its name is that of the data set.
        size: side of the square images, in pixels: their short side is resized to it, their center cropped.
        grayscale: whether images have one channel, gray, in place of red, green and blue.
        test_share: share of the images set aside for testing where the folders have no split, between 0 and 1.
    """
    base = own_folder(machine.root, folder)
    classes, found = find_files(base, SUFFIXES, "image", test_share)
    files = [label_files(base, found[split], classes) for split in ("train", "test")]
    name, options = base.resolve().name, DecodeOptions(grayscale=grayscale)
    return ImageListing(name, classes, *files, described("image files", base), size, options)


def _archive(official: "type[CIFAR10]", base: Path | None, bases: Sequence[Path], download: bool) -> "list[CIFAR10]":
    """Return the training and test part of the archive in `base`, unpacked there; None downloads it to the first of `bases`."""
    from torchvision.datasets.utils import check_integrity

    put = f"put {official.url} there, or {WHERE_ELSE}"
    missing = (
        f"{official.__name__} not found: looked in {listed(bases)} for {official.base_folder}, {official.filename}, "
        "or train/CLASS and test/CLASS"
    )
    if base is None and not download:
        raise ReldropError(f"{missing}; set machine.download=true, {put}")
    try:
        # What torchvision calls download also unpacks an archive that is there; it fetches one if none is intact.
        fetch = base is None or check_integrity(base / official.filename, official.tgz_md5)
        return [official(base or bases[0], train=train, download=fetch) for train in (True, False)]
    except (OSError, RuntimeError, HTTPException) as error:  # no network, no space, a wrong checksum
        if base is None:
            raise ReldropError(f"{missing}; and downloading it failed ({error}): {put}") from error
        if isinstance(error, RuntimeError):
            raise ReldropError(
                f"the official archive in {base} is damaged or incomplete: {official.base_folder} or "
                f"{official.filename} has a wrong checksum; remove both, then set machine.download=true or put "
                f"{official.url} there"
            ) from error
        raise ReldropError(
            f"cannot unpack or read the official archive in {base}: {error}; unpack it in a folder you can write, and "
            f"{WHERE_ELSE}"
        ) from error


def _annotated_files(folder: Path, classes: Sequence[str]) -> Files:
    """Return the images of Tiny-ImageNet's val folder, labeled by a table of file name, WNID and bounding box."""
    found = []
    for where, line in read_lines(folder / TABLE):
        image, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in classes:
            raise ReldropError(f"{where}: {wnid!r} is a class without training images; remove the line")
        found.append((str(folder / "images" / image), wnid))
    if not found:
        raise ReldropError(
            f"{folder / TABLE} lists no images; it needs a line for each: its file name, a tab, its class"
        )
    return label_files(folder, found, classes)

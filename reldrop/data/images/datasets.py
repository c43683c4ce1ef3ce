"""The image data sets that configurations name: each function reads one as `ImageData`.

They share these parameters:
    name: of the data set, in reports.
    root: folder that the data sets lie in.
    mean, std: of each channel of the training images, which are in [0, 1].
    crop_padding: black pixels around a training image before the random crop; 0 for no crop.
    flip: whether training images are flipped left to right with probability 0.5.
    subset: number of training images, as evenly as possible of all classes; None for all.
    test_subset: likewise of the test images.
    validation: share of the training images held out before `subset` is chosen, in [0, 1).
    memory_limit_gb: above this size, in 1e9 bytes, decoded image files are not kept in memory but decoded when used.
    workers: processes that decode those.

Which images are chosen depends on the data only, and all of them raise `ReldropError` for what its user can mend: data
that is not found, damaged or inconsistent, and settings out of range.
"""

from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.images.folders import Files, class_files, class_names, read_files
from reldrop.data.paths import WHERE_ELSE, candidates, described, first, listed
from reldrop.data.splits import split_training, stratified_split, stratified_subset
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, FractionBelowOne, NonNegative, Positive, WholeNumber, checked

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

DIGITS_TEST = 450  # of the 1,797


@checked
def digits(
    name: str,
    mean: Sequence[float],
    std: Sequence[Positive],
    crop_padding: WholeNumber = 0,
    flip: bool = False,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
) -> ImageData:
    """Read the 8x8 grey digits that come with scikit-learn, in a fixed split of 1,347 to 450."""
    from sklearn.datasets import load_digits  # takes a second to import, and nothing else here needs it

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target).long()
    train, test = stratified_split(labels, DIGITS_TEST, "digits")
    return _read_arrays(
        (images[train], labels[train]),
        (images[test], labels[test]),
        subset=subset,
        test_subset=test_subset,
        validation=validation,
        name=name,
        classes=tuple(map(str, bunch.target_names)),
        mean=mean,
        std=std,
        source="embedded in scikit-learn",
        crop_padding=crop_padding,
        flip=flip,
    )


@checked
def cifar(
    root: str,
    variant: Literal[10, 100],
    name: str,
    mean: Sequence[float],
    std: Sequence[Positive],
    crop_padding: WholeNumber = 0,
    flip: bool = False,
    download: bool = False,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    memory_limit_gb: NonNegative = 8.0,
    workers: WholeNumber = 4,
) -> ImageData:
    """Read CIFAR-10 or CIFAR-100, 32x32, from the official archive or from folders of image files.

    Both are looked for in `root`, `root`/cifar10 and `root`/cifar10_jpeg (cifar100 likewise): first the archive, packed
    or unpacked, then folders train/CLASS and test/CLASS.

    Args:
        variant: number of classes, 10 or 100.
        download: whether to fetch the archive into `root` where neither is found.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # takes seconds to import, and no mistake needs it

    official = CIFAR10 if variant == 10 else CIFAR100
    bases = candidates(root, [".", f"cifar{variant}", f"cifar{variant}_jpeg"])
    archive = first(bases, lambda base: (base / official.base_folder).is_dir() or (base / official.filename).is_file())
    folders = first(bases, lambda base: (base / "train").is_dir() and (base / "test").is_dir())
    chosen = {"subset": subset, "test_subset": test_subset, "validation": validation}
    attributes = {"name": name, "mean": mean, "std": std, "crop_padding": crop_padding, "flip": flip}
    if archive is not None or folders is None:
        if archive is not None:
            train, test = _unpack(official, archive)
        else:
            train, test = _download(official, bases, download)
        return _read_arrays(
            _tensors(train), _tensors(test), classes=train.classes, source="official archive", **chosen, **attributes
        )
    classes = class_names(folders / "train")
    if len(classes) != variant:
        raise ReldropError(
            f"{folders / 'train'} has {len(classes)} class folders where CIFAR-{variant} has {variant}; {WHERE_ELSE}"
        )
    return read_files(
        class_files(folders / "train", classes),
        class_files(folders / "test", classes),
        size=32,
        classes=classes,
        source=described("image files", folders),
        memory_limit_gb=memory_limit_gb,
        workers=workers,
        **chosen,
        **attributes,
    )


@checked
def tiny_imagenet(
    root: str,
    folders: Sequence[str],
    name: str,
    mean: Sequence[float],
    std: Sequence[Positive],
    crop_padding: WholeNumber = 0,
    flip: bool = False,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    memory_limit_gb: NonNegative = 8.0,
    workers: WholeNumber = 4,
) -> ImageData:
    """Read Tiny-ImageNet, 64x64, or some classes of it, in its original layout; its val images are the test split.

    Args:
        folders: where to look, relative to `root`, in this order.
    """
    bases = candidates(root, folders)
    base = first(bases, lambda base: (base / "train").is_dir() and (base / "val" / "val_annotations.txt").is_file())
    if base is None:
        raise ReldropError(
            f"Tiny-ImageNet not found: looked in {listed(bases)} for train/WNID/images and val/val_annotations.txt; "
            f"unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or {WHERE_ELSE}"
        )
    classes = class_names(base / "train")
    return read_files(
        class_files(base / "train", classes),
        _annotated_files(base / "val", classes),
        size=64,
        subset=subset,
        test_subset=test_subset,
        validation=validation,
        memory_limit_gb=memory_limit_gb,
        workers=workers,
        name=name,
        classes=classes,
        mean=mean,
        std=std,
        source=described("image files", base),
        crop_padding=crop_padding,
        flip=flip,
    )


@checked
def image_folder(
    root: str,
    folder: str,
    size: Count,
    mean: Sequence[float],
    std: Sequence[Positive],
    name: str | None = None,
    crop_padding: WholeNumber = 0,
    flip: bool = False,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    memory_limit_gb: NonNegative = 8.0,
    workers: WholeNumber = 4,
) -> ImageData:
    """Read any images from `folder`/train/CLASS/** and `folder`/test/CLASS/** (or val or validation, in this order).

    Args:
        folder: where they lie, relative to `root` or absolute.
        size: side of the square images, in pixels: their short side is resized to it, their center cropped.
        name: None for the name of the folder.
    """
    (base,) = candidates(root, [folder])
    train, test = base / "train", first([base / split for split in ("test", "val", "validation")], Path.is_dir)
    if not train.is_dir() or test is None:
        missing = "train/CLASS" if test is not None else "test/CLASS (or val or validation)"
        raise ReldropError(
            f"image folders not found: looked in {listed([base])} for {missing}; set dataset.folder to the folder that "
            "has them, absolute or relative to data_dir"
        )
    classes = class_names(train)
    return read_files(
        class_files(train, classes),
        class_files(test, classes),
        size=size,
        subset=subset,
        test_subset=test_subset,
        validation=validation,
        memory_limit_gb=memory_limit_gb,
        workers=workers,
        name=base.resolve().name if name is None else name,
        classes=classes,
        mean=mean,
        std=std,
        source=described("image files", base),
        crop_padding=crop_padding,
        flip=flip,
    )


def _unpack(official: "type[CIFAR10]", base: Path) -> "list[CIFAR10]":
    """Return the training and test part of the archive in `base`, unpacking it there first where need be."""
    from torchvision.datasets.utils import check_integrity

    try:
        # What torchvision calls download also unpacks an archive that is there; it fetches one if none is intact.
        packed = check_integrity(base / official.filename, official.tgz_md5)
        return [official(base, train=train, download=packed) for train in (True, False)]
    except RuntimeError as error:
        raise ReldropError(
            f"the official archive in {base} is damaged or incomplete: {official.base_folder} or {official.filename} "
            f"has a wrong checksum; remove both, then set dataset.download=true or put {official.url} there"
        ) from error
    except OSError as error:
        raise ReldropError(
            f"cannot unpack or read the official archive in {base}: {error}; unpack it in a folder you can write, and "
            f"{WHERE_ELSE}"
        ) from error


def _download(official: "type[CIFAR10]", bases: Sequence[Path], allowed: bool) -> "list[CIFAR10]":
    """Fetch the archive into the first of the `bases` in vain looked through; return its training and test part."""
    missing = (
        f"{official.__name__} not found: looked in {listed(bases)} for {official.base_folder}, {official.filename}, "
        "or train/CLASS and test/CLASS"
    )
    if not allowed:
        raise ReldropError(f"{missing}; set dataset.download=true, put {official.url} there, or {WHERE_ELSE}")
    try:
        return [official(bases[0], train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError, HTTPException) as error:  # no network, no space, a wrong checksum
        raise ReldropError(
            f"{missing}; and downloading it failed ({error}): put {official.url} there, or {WHERE_ELSE}"
        ) from error


def _tensors(dataset: "CIFAR10") -> tuple[Tensor, Tensor]:
    return torch.from_numpy(dataset.data).permute(0, 3, 1, 2), torch.tensor(dataset.targets)


def _annotated_files(folder: Path, classes: Sequence[str]) -> Files:
    """Return the images of Tiny-ImageNet's val folder, labelled by a table of file name, WNID and bounding box."""
    table = folder / "val_annotations.txt"
    paths, labels = [], []
    for number, line in enumerate(table.read_text().splitlines(), 1):
        image, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in classes:
            raise ReldropError(f"{table}, line {number}: {wnid!r} is a class without training images; remove the line")
        paths.append(str(folder / "images" / image))
        labels.append(classes.index(wnid))
    if not paths:
        raise ReldropError(f"{table} lists no images; it needs a line for each: its file name, a tab, its class")
    return Files(paths, torch.tensor(labels))


def _read_arrays(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    subset: int | None,
    test_subset: int | None,
    validation: float,
    **attributes: Any,
) -> ImageData:
    """Choose from decoded images, uint8 (N, C, H, W), and labels, int64 (N,); `attributes` are those of `ImageData`."""

    def choose(split: tuple[Tensor, Tensor], indices: Tensor) -> ImageSplit:
        images, labels = split
        return ImageSplit(images[indices].contiguous(), labels[indices])

    kept, held_out = split_training(train[1], validation, subset)
    return ImageData(
        size=train[0].shape[-1],
        train=choose(train, kept),
        test=choose(test, stratified_subset(test[1], test_subset, "test_subset")),
        validation=None if held_out is None else choose(train, held_out),
        **attributes,
    )

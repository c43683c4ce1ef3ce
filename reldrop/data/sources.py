"""Where images come from: each function here is what a file of conf/dataset builds."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reldrop.data import files
from reldrop.data.images import ImageData, ImageSplit
from reldrop.errors import ReldropError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_STATISTICS = {
    10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def digits(
    *,
    name: str = "digits",
    validation: float = 0.0,
    subset: int | None = None,
    test_subset: int | None = None,
    crop_padding: int = 1,
    flip: bool = False,
) -> ImageData:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels: 1,347 for training, 450 for testing. Nothing to download."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy((raw.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(raw.target).long()
    train, test = files.hold_out(labels, 450 / len(labels))
    return _assemble(
        lambda index: ImageSplit(images[index], labels[index]),
        labels,
        train,
        (lambda index: ImageSplit(images[test][index], labels[test][index]), labels[test]),
        validation,
        subset,
        test_subset,
        name=name,
        classes=tuple(str(digit) for digit in range(10)),
        mean=(0.3053,),
        std=(0.3760,),
        source="scikit-learn, embedded",
        size=8,
        crop_padding=crop_padding,
        flip=flip,
    )


def cifar(
    variant: int,
    *,
    name: str,
    root: str,
    download: bool = True,
    validation: float = 0.0,
    subset: int | None = None,
    test_subset: int | None = None,
    crop_padding: int = 4,
    flip: bool = True,
) -> ImageData:
    """CIFAR-10 or CIFAR-100: the official archive, or folders train/<class> and test/<class> of image files.

    Looked for in `root` and in its subfolders cifar10 and cifar10_jpeg (or cifar100, cifar100_jpeg).

    Args:
        variant: 10 or 100.
        download: fetch the official archive into `root`, checked by its checksum, if nothing is found.

    Raises:
        ReldropError: if there is nothing to read, or what is there is damaged.
    """
    places = [Path(root), Path(root) / f"cifar{variant}", Path(root) / f"cifar{variant}_jpeg"]
    mean, std = CIFAR_STATISTICS[variant]
    facts = {"name": name, "mean": mean, "std": std, "size": 32, "crop_padding": crop_padding, "flip": flip}
    archive = _cifar_class(variant)
    for place in places:
        if (place / archive.base_folder).is_dir() or (place / archive.filename).is_file():
            return _official_cifar(archive, place, False, validation, subset, test_subset, facts)
    for place in places:
        if (place / "train").is_dir() and (place / "test").is_dir():
            return _folders(place / "train", place / "test", 32, validation, subset, test_subset, facts)
    looked = ", ".join(map(str, places))
    if download:
        try:
            return _official_cifar(archive, places[0], True, validation, subset, test_subset, facts)
        except (OSError, RuntimeError) as error:
            raise ReldropError(
                f"CIFAR-{variant} is in none of {looked}, and downloading it failed ({error}); put the archive "
                f"{archive.url} or folders train/<class>, test/<class> into one of them, or set data_dir (or RELDROP_DATA)"
            ) from error
    raise ReldropError(
        f"CIFAR-{variant} is in none of {looked}; set data_dir (or RELDROP_DATA) to where it is, or dataset.download=true"
    )


def tiny_imagenet(
    *,
    name: str,
    root: str,
    folders: Sequence[str] = ("tiny-imagenet-200", "tiny-imagenet-25"),
    validation: float = 0.0,
    subset: int | None = None,
    test_subset: int | None = None,
    crop_padding: int = 8,
    flip: bool = True,
    memory_limit_gb: float = 8.0,
    workers: int = 4,
) -> ImageData:
    """Tiny-ImageNet (or some of its classes) in its own layout, 64x64 pixels; its annotated val images are the test set.

    Raises:
        ReldropError: if it is not found in `root` or one of its `folders`, or is incomplete.
    """
    places = [Path(root), *(Path(root) / folder for folder in folders)]
    place = next((place for place in places if (place / "val" / "val_annotations.txt").is_file()), None)
    if place is None or not (place / "train").is_dir():
        raise ReldropError(
            f"Tiny-ImageNet (train/<wnid>/images, val/val_annotations.txt) is in none of {', '.join(map(str, places))}; get "
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip, unpack it there, or set data_dir (or RELDROP_DATA)"
        )
    classes = files.list_classes(place / "train")
    test = _annotated(place / "val", classes)
    facts = {
        "name": name,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "size": 64,
        "crop_padding": crop_padding,
        "flip": flip,
        "classes": tuple(classes),
        "source": f"Tiny-ImageNet folder {place.name}",
    }
    train = files.list_images(place / "train", classes)
    return _from_files(train, test, 64, validation, subset, test_subset, facts, memory_limit_gb, workers)


def image_folder(
    *,
    name: str,
    root: str,
    folder: str,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    validation: float = 0.0,
    subset: int | None = None,
    test_subset: int | None = None,
    crop_padding: int = 4,
    flip: bool = True,
    memory_limit_gb: float = 8.0,
    workers: int = 4,
) -> ImageData:
    """Anybody's images of any size: <folder>/train/<class> and <folder>/test (or val, validation)/<class>.

    Args:
        folder: relative to `root`, or absolute.
        size: pixels; the short side of each image is resized to it and the middle square is kept.

    Raises:
        ReldropError: if a folder is missing or empty, or the test set has a class that the training set has not.
    """
    place = Path(root) / folder
    test = next((place / split for split in ("test", "val", "validation") if (place / split).is_dir()), None)
    if not (place / "train").is_dir() or test is None:
        raise ReldropError(
            f"{place} is no image folder: it must hold train/<class> and test/<class> (or val/<class>) with image files; set "
            "dataset.folder, and data_dir (or RELDROP_DATA) if it is relative"
        )
    if size < 1:
        raise ReldropError(f"dataset.size is {size}; it must be at least 1 pixel")
    facts = {
        "name": name,
        "mean": tuple(mean),
        "std": tuple(std),
        "size": size,
        "crop_padding": crop_padding,
        "flip": flip,
    }
    return _folders(place / "train", test, size, validation, subset, test_subset, facts, memory_limit_gb, workers)


# ---- shared -----------------------------------------------------------------------------------------------------------


def _assemble(
    read_train: Callable[[Tensor], ImageSplit],
    labels: Tensor,
    train: Tensor,
    test: tuple[Callable[[Tensor], ImageSplit], Tensor],
    validation: float,
    subset: int | None,
    test_subset: int | None,
    **facts: Any,
) -> ImageData:
    """Choose what to train, validate and test on, and only then read it.

    Args:
        read_train: reads the images of given indices; `labels` are those of all of them.
        train: indices of the training set, before a validation set is held out.
        test: the same for the test set, with its labels.
    """
    stays, held = files.hold_out(labels[train], validation)
    stays, held = train[stays], train[held]
    chosen = stays[files.choose(labels[stays], subset, "subset")]
    read_test, test_labels = test
    return ImageData(
        train=read_train(chosen),
        validation=read_train(held) if len(held) else None,
        test=read_test(files.choose(test_labels, test_subset, "test_subset")),
        **facts,
    )


def _from_files(
    train: files.Files,
    test: files.Files,
    size: int,
    validation: float,
    subset: int | None,
    test_subset: int | None,
    facts: dict[str, Any],
    memory_limit_gb: float = 8.0,
    workers: int = 0,
) -> ImageData:
    def reader(source: files.Files) -> Callable[[Tensor], ImageSplit]:
        paths, labels = source
        return lambda index: files.read(
            ([paths[i] for i in index.tolist()], labels[index]), size, memory_limit_gb, workers
        )

    everything = torch.arange(len(train[0]))
    return _assemble(
        reader(train), train[1], everything, (reader(test), test[1]), validation, subset, test_subset, **facts
    )


def _folders(
    train: Path,
    test: Path,
    size: int,
    validation: float,
    subset: int | None,
    test_subset: int | None,
    facts: dict[str, Any],
    memory_limit_gb: float = 8.0,
    workers: int = 0,
) -> ImageData:
    classes = files.list_classes(train)
    facts = {**facts, "classes": tuple(classes), "source": f"image files in folder {train.parent.name}"}
    images = (files.list_images(folder, classes) for folder in (train, test))
    return _from_files(*images, size, validation, subset, test_subset, facts, memory_limit_gb, workers)


def _cifar_class(variant: int) -> Any:
    from torchvision.datasets import CIFAR10, CIFAR100

    if variant not in CIFAR_STATISTICS:
        raise ReldropError(f"dataset.variant is {variant}; it must be 10 or 100")
    return CIFAR10 if variant == 10 else CIFAR100


def _official_cifar(
    archive: Any,
    place: Path,
    download: bool,
    validation: float,
    subset: int | None,
    test_subset: int | None,
    facts: dict[str, Any],
) -> ImageData:
    unpacked = (place / archive.base_folder).is_dir()
    try:
        # With download=True, torchvision unpacks an archive that is there already, after checking its checksum.
        splits = [archive(str(place), train=train, download=download or not unpacked) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        if download:
            raise
        raise ReldropError(
            f"the official archive in {place} is damaged or incomplete ({error}); remove {archive.base_folder} and "
            f"{archive.filename} there and get {archive.url} anew"
        ) from error
    (train, train_labels), (test, test_labels) = (
        (torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)) for split in splits
    )
    return _assemble(
        lambda index: ImageSplit(train[index], train_labels[index]),
        train_labels,
        torch.arange(len(train)),
        (lambda index: ImageSplit(test[index], test_labels[index]), test_labels),
        validation,
        subset,
        test_subset,
        classes=tuple(splits[0].classes),
        source="official archive",
        **facts,
    )


def _annotated(folder: Path, classes: Sequence[str]) -> files.Files:
    """The images of Tiny-ImageNet's val folder, in the order of their annotations."""
    label = {name: index for index, name in enumerate(classes)}
    paths, labels = [], []
    annotations = folder / "val_annotations.txt"
    for number, line in enumerate(annotations.read_text().splitlines(), 1):
        columns = line.split("\t")
        if len(columns) < 2:
            raise ReldropError(f"{annotations}, line {number}: expected a file name, a tab and a class, found {line!r}")
        if columns[1] not in label:
            raise ReldropError(f"{annotations}, line {number}: class {columns[1]} is not in the training set")
        path = folder / "images" / columns[0]
        if not os.path.isfile(path):
            raise ReldropError(f"{annotations}, line {number}: image {path} does not exist")
        paths.append(str(path))
        labels.append(label[columns[1]])
    if not paths:
        raise ReldropError(f"{annotations} lists no images")
    return paths, torch.tensor(labels)

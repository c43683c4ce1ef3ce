"""Image files in class folders: what is there, which of it is used, and how it is read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.images.decoding import PLAIN, DecodeOptions, StreamedImages, decode_all
from reldrop.data.splits import split_training, stratified_subset
from reldrop.utils.errors import ReldropError

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class Files:
    """N image files and their labels, int64 (N,)."""

    paths: Sequence[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> "Files":
        return Files([self.paths[index] for index in indices.tolist()], self.labels[indices])


def class_names(folder: Path, items: str = "images") -> tuple[str, ...]:
    """Return the names of the class folders in `folder`, sorted; `items` says in the message what they hold.

    Raises:
        ReldropError: there is none.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ReldropError(f"{folder} has no class folders; it needs a folder of {items} for each class")
    return tuple(names)


def class_files(folder: Path, classes: Sequence[str]) -> Files:
    """Return the images of `folder`/CLASS/**, class by class and sorted, labelled by their position in `classes`.

    Hidden files and folders are passed over, and so is what has no image's suffix.

    Raises:
        ReldropError: a class folder has no images, or is not one of `classes`.
    """
    paths, labels = [], []
    for name in class_names(folder):
        if name not in classes:
            raise ReldropError(f"{folder / name} is a class without training images; add some, or remove the folder")
        found = image_files(folder / name)
        if not found:
            raise ReldropError(f"{folder / name} has no images; add some ({' '.join(sorted(SUFFIXES))}) or remove it")
        paths += found
        labels += [classes.index(name)] * len(found)
    return Files(paths, torch.tensor(labels))


def flat_images(folder: Path) -> list[str] | None:
    """Return the images that lie in `folder` itself, sorted; None if it has folders, of classes, instead.

    Raises:
        ReldropError: there are neither.
    """
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
        return None
    images = image_files(folder)
    if not images:
        raise ReldropError(f"{folder} has no images; it needs some, in one folder or a folder for each class")
    return images


def image_files(folder: Path) -> list[str]:
    """Return the images of `folder`/**, sorted, without what is hidden or has no image's suffix."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES)
        found += [os.path.join(directory, name) for name in images]
    return sorted(found)


def read_files(
    train: Files,
    test: Files,
    *,
    size: int,
    subset: int | None,
    test_subset: int | None,
    validation: float,
    memory_limit_gb: float,
    workers: int,
    reading: DecodeOptions = PLAIN,
    **attributes: Any,
) -> ImageData:
    """Choose from the files, and read the chosen ones: now, or as they are used where they would not fit in memory.

    Training images of which random crops are taken, or some may be skipped, are always read as they are used.

    Args:
        train: files of the training images.
        test: files of the test images.
        size: side that the images are resized and cropped to, in pixels.
        subset: number of training images; None for all.
        test_subset: number of test images; None for all.
        validation: share of the training images held out, in [0, 1).
        memory_limit_gb: above this size, in 1e9 bytes, the decoded images are not kept in memory.
        workers: processes that decode those.
        reading: how image files are read.
        attributes: the other attributes of `ImageData`.

    Raises:
        ReldropError: a setting is out of range, or an image cannot be decoded.
    """
    kept, held_out = split_training(train.labels, validation, subset)
    chosen: Mapping[str, Files] = {
        "train": train[kept],
        "test": test[stratified_subset(test.labels, test_subset, "test_subset")],
    } | ({} if held_out is None else {"validation": train[held_out]})
    changing = ("train",) if reading.crop or reading.on_decode_error == "skip" else ()
    fixed = sum(len(files) for split, files in chosen.items() if split not in changing)
    streamed = changing if fixed * 3 * size * size <= memory_limit_gb * 1e9 else tuple(chosen)
    splits = {}
    for split, files in chosen.items():
        if split in streamed:
            splits[split] = ImageSplit(StreamedImages(files.paths, size, workers, reading), files.labels)
        else:
            images, decoded = decode_all(files.paths, size, f"{attributes['name']} {split}", reading)
            files = files[decoded]
            splits[split] = ImageSplit(images, files.labels, files.paths, reading)
    return ImageData(size=size, **splits, **attributes)

"""Image files in class folders: which there are, and the labels of their classes."""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import torch

from reldrop.data.folders import files_of_classes
from reldrop.data.paths import Files, class_folders, files_below
from reldrop.utils.errors import ReldropError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def class_files(folder: Path, classes: Sequence[str], wanted: Container[str] | None = None) -> Files:
    """Return the images of `folder`/CLASS/**, class by class and sorted, labeled by their position in `classes`.

    `wanted` are the class folders that are read; None for all.

    Raises:
        ReldropError: a class folder has no images, or is not one of `classes`.
    """
    folders = {name: path for name, path in class_folders(folder).items() if wanted is None or name in wanted}
    return label_files(folder, files_of_classes(folders, SUFFIXES, "image"), classes)


def label_files(folder: Path, found: Iterable[tuple[str, str]], classes: Sequence[str]) -> Files:
    """Return files of `folder`, given with their classes, labeled by the position of those in `classes`.

    Raises:
        ReldropError: there are none, or some are of another class.
    """
    found, labels = list(found), {name: label for label, name in enumerate(classes)}
    if not found:
        raise ReldropError(f"{folder} has no images of the {len(classes)} classes; add some")
    if strange := {name for _, name in found} - set(classes):
        raise ReldropError(
            f"{folder} has images of {min(strange)}, a class without training images; add some, or leave it out"
        )
    return Files([path for path, _ in found], torch.tensor([labels[name] for _, name in found]))


def flat_images(folder: Path) -> list[str] | None:
    """Return the images in `folder` itself, sorted; None if it has folders, of classes, instead.

    Raises:
        ReldropError: there are neither.
    """
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
        return None
    images = files_below(folder, SUFFIXES)
    if not images:
        raise ReldropError(f"{folder} has no images; it needs some, in one folder or a folder for each class")
    return images

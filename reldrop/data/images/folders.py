"""Image files in class folders: which there are, and the labels of their classes."""

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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


def class_files(folder: Path, classes: Sequence[str], wanted: Container[str] | None = None) -> Files:
    """Return the images of `folder`/CLASS/**, class by class and sorted, labeled by their position in `classes`.

    Hidden files and folders are left out, and so are files without an image's suffix.

    Args:
        folder: of the class folders.
        classes: names of the classes.
        wanted: class folders that are read; None for all.

    Raises:
        ReldropError: a class folder has no images, or is not one of `classes`.
    """
    found: list[tuple[str, str]] = []
    for name in class_names(folder):
        if wanted is None or name in wanted:
            images = image_files(folder / name)
            if not images:
                suffixes = " ".join(sorted(SUFFIXES))
                raise ReldropError(f"{folder / name} has no images; add some ({suffixes}) or remove it")
            found += [(image, name) for image in images]
    return label_files(folder, found, classes)


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
    images = image_files(folder)
    if not images:
        raise ReldropError(f"{folder} has no images; it needs some, in one folder or a folder for each class")
    return images


def image_files(folder: Path) -> list[str]:
    """Return the images of `folder`/**, sorted, without hidden files and those without an image's suffix."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES)
        found += [os.path.join(directory, name) for name in images]
    return sorted(found)

"""Where the images of the zero-shot suite are stored, and which classes they are of."""

from collections.abc import Sequence
from pathlib import Path

import torch

from reldrop.data.images.folders import class_files, flat_images
from reldrop.data.images.imagenet_labels import val_wnids
from reldrop.data.paths import Files, class_folders
from reldrop.data.splits import stratified_subset
from reldrop.evaluation.imagenet_classes import SETS, class_wnids, synsets
from reldrop.utils.errors import ReldropError


def find_set(folder: Path, name: str) -> Files | None:
    """Return the images of one of `SETS` in folders `folder/WNID`, labelled by the 1,000 classes; None without the folder.

    Raises:
        ReldropError: there are no class folders, one of them is empty, or none of the set's classes.
    """
    if not folder.is_dir():
        return None
    return _class_folders(folder, class_wnids(name), SETS[name])


def find_val(folders: Sequence[Path], label_places: Sequence[Path]) -> Files | None:
    """Return ImageNet's val images from the first of `folders` that exists, labelled by the 1,000 classes; else None.

    Args:
        folders: with folders `WNID` of classes, or all images in one, in the official order of their names.
        label_places: folders in which the labels of the latter are looked for, see `reldrop.data.images.imagenet_labels`; the
            one above `folders` is looked through first.

    Raises:
        ReldropError: there are no images, no labels, or a class is none of the 1,000.
    """
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        return None
    images = flat_images(folder)
    if images is None:
        return _class_folders(folder, synsets(), "ImageNet")
    try:
        wnids = val_wnids(images, [folder.parent, *label_places])
    except ReldropError as error:
        raise ReldropError(
            f"{folder} has no class folders, and no file of labels that fits is beside it; sort the images into "
            f"{folder.name}/WNID, or put imagenet_2012_validation_synset_labels.txt into {folder.parent}"
        ) from error
    places = {wnid: place for place, wnid in enumerate(synsets())}
    if strange := set(wnids) - set(places):
        raise ReldropError(
            f"the labels of {folder} name {min(strange)}, which is none of the 1,000 classes of ImageNet"
        )
    return Files(images, torch.tensor([places[wnid] for wnid in wnids]))


def subset(files: Files, limit: int | None) -> Files:
    """Return up to `limit` of them, the same ones each time and as evenly over the classes as they go; None for all."""
    if limit is None or limit >= len(files):
        return files
    return files[stratified_subset(files.labels, limit, "limit")]


def _class_folders(folder: Path, wnids: Sequence[str], title: str) -> Files:
    if strange := set(class_folders(folder)) - set(wnids):
        raise ReldropError(f"{folder / min(strange)} is none of the {len(wnids)} classes of {title}; remove it")
    return class_files(folder, synsets())

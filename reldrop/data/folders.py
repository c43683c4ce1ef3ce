"""Folders of one's own: a folder for each class, split into train/ and test/ or not."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from reldrop.data.paths import class_folders, files_below, listed, subfolders
from reldrop.data.splits import stratified_split
from reldrop.utils.errors import ReldropError

logger = logging.getLogger("reldrop")

NAMES = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}  # in any case


def find_files(
    base: Path, suffixes: Sequence[str], unit: str, test_share: float
) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """Find the classes in `base`, and the files of "train" and "test", each with its class, class by class and sorted.

    Files are in train/CLASS/** and test/CLASS/**, in CLASS/train/** and CLASS/test/**, or in CLASS/**; `NAMES` has what
    may be in the place of train and test. Where there is nothing to test on, a share of each class is set aside, always
    the same files, and a message says so.

    Args:
        suffixes: of the files.
        unit: the word for one of them in messages.
        test_share: share of the files to set aside, between 0 and 1.

    Raises:
        ReldropError: there is no such folder, a class has no files, or is only tested on.
    """
    folders = _class_folders(base, unit)
    found = {
        split: [(file, name) for name, path in paths.items() for file in class_items(path, suffixes, unit)]
        for split, paths in folders.items()
    }
    classes = list(folders["train"])
    if "test" not in folders:
        found |= _set_aside(found["train"], classes, base, unit, test_share)
    elif strange := sorted(folders["test"].keys() - folders["train"].keys()):
        raise ReldropError(
            f"{Path(folders['test'][strange[0]]).parent} has {unit}s of {strange[0]}, a class without training {unit}s; "
            "add some, or leave it out"
        )
    if missing := sorted(set(classes) - {name for _, name in found["test"]}):
        logger.warning("%s: there are no %ss to test on of %s", base, unit, ", ".join(missing))
    beside = {str(Path(path).parent) for paths in folders.values() for path in paths.values()}
    ends = tuple({*suffixes} - {".txt"})
    stray = sorted(e.name for top in beside for e in os.scandir(top) if e.name.lower().endswith(ends) and e.is_file())
    if stray:
        logger.warning("%s: %d %ss beside the class folders are left out, e.g. %s", base, len(stray), unit, stray[0])
    return classes, found


def class_items(folder: str | Path, suffixes: Sequence[str], unit: str) -> list[str]:
    """Return the files of a class, sorted.

    Raises:
        ReldropError: there are none.
    """
    found = files_below(folder, suffixes) if os.path.isdir(folder) else []
    if not found:
        raise ReldropError(f"{folder} has no {unit}s; add some ({' '.join(suffixes)}) or remove the class")
    return found


def _class_folders(base: Path, unit: str) -> dict[str, dict[str, str]]:
    """Return the class folders of "train" and, if there are some, of "test"."""
    if not base.is_dir():
        raise ReldropError(
            f"folder of {unit}s not found: looked in {listed([base])}; set dataset.folder to the folder that has the {unit}s, "
            "absolute, or relative to data_dir or to the current folder"
        )
    top = _splits(base)
    if top["test"] and not top["train"]:
        raise ReldropError(f"{base} has {Path(top['test'][0]).name}/ but no train/; add train/CLASS, or rename it")
    if not top["train"]:
        classes = class_folders(base, f"{unit}s")
        inner = {name: _splits(path) for name, path in classes.items()}
        if all(all(each.values()) for each in inner.values()):
            return {split: {name: each[split][0] for name, each in inner.items()} for split in NAMES}
        return {"train": classes}
    tests = [path for path in top["test"] if subfolders(path)]
    if unused := [
        Path(path).name for path in (*top["train"], *top["test"]) if path not in (top["train"][0], *tests[:1])
    ]:
        logger.warning(
            "%s: %s/ is not used (%s)", base, "/, ".join(unused), "a split needs class folders, and one is tested on"
        )
    return {
        split: class_folders(Path(path), f"{unit}s")
        for split, path in zip(NAMES, (top["train"][0], *tests[:1]), strict=False)
    }


def _splits(folder: str | Path) -> dict[str, list[str]]:
    """Return the folders in `folder` that are named like splits."""
    paths = {name.lower(): path for name, path in subfolders(folder).items()}
    return {split: [paths[name] for name in names if name in paths] for split, names in NAMES.items()}


def _set_aside(
    files: list[tuple[str, str]], classes: list[str], base: Path, unit: str, test_share: float
) -> dict[str, list[tuple[str, str]]]:
    count = round(test_share * len(files))
    if not 1 <= count < len(files):
        raise ReldropError(
            f"test_share={test_share} of {len(files)} {unit}s leaves none on one side; "
            "choose a share between 0 and 1 that leaves some on both"
        )
    labels = {name: label for label, name in enumerate(classes)}
    parts = stratified_split(torch.tensor([labels[name] for _, name in files]), count, "test")
    logger.info(
        "%s: of %d %ss, %d are for testing, of each class the same share, always the same ones (dataset.test_share=%g)",
        *(base, len(files), unit, count, test_share),
    )
    return {split: [files[index] for index in part] for split, part in zip(NAMES, parts, strict=True)}

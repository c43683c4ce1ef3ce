"""Folders of one's own: a folder for each class, split into train/ and test/ or not."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from reldrop.data.paths import class_folders, contents, files_below, listed, subfolders
from reldrop.data.splits import stratified_split
from reldrop.utils.errors import ReldropError

logger = logging.getLogger("reldrop")

NAMES = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}  # in any case


Found = list[tuple[str, str]]  # files, each with its class


def find_files(base: Path, suffixes: Sequence[str], unit: str, test_share: float) -> tuple[list[str], dict[str, Found]]:
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
    classes = list(folders["train"])
    found = {split: files_of_classes(paths, suffixes, unit) for split, paths in folders.items()}
    if "test" not in found:
        found = _set_aside(found["train"], classes, base, unit, test_share)
    elif strange := sorted(folders["test"].keys() - folders["train"].keys()):
        raise ReldropError(
            f"{Path(folders['test'][strange[0]]).parent} has {unit}s of {strange[0]}, a class without training {unit}s; "
            "add some, or leave it out"
        )
    if missing := sorted(set(classes) - {name for _, name in found["test"]}):
        logger.warning("%s: there are no %ss to test on of %s", base, unit, ", ".join(missing))
    beside = {str(Path(path).parent) for paths in folders.values() for path in paths.values()}
    ends = tuple({*suffixes} - {".txt"})  # such as README.txt
    stray = sorted(os.path.basename(file) for top in beside for file in contents(top)[1] if file.lower().endswith(ends))
    if stray:
        logger.warning("%s: %d %ss beside the class folders are left out, e.g. %s", base, len(stray), unit, stray[0])
    return classes, found


def files_of_classes(folders: Mapping[str, str], suffixes: Sequence[str], unit: str) -> Found:
    """Return the files in class folders, given by class, each with its class, class by class and sorted.

    Raises:
        ReldropError: a class has none.
    """
    found = {name: files_below(path, suffixes) if os.path.isdir(path) else [] for name, path in folders.items()}
    for name, files in found.items():
        if not files:
            raise ReldropError(f"{folders[name]} has no {unit}s; add some ({' '.join(suffixes)}) or remove the class")
    return [(file, name) for name, files in found.items() for file in files]


def _class_folders(base: Path, unit: str) -> dict[str, dict[str, str]]:
    """Return the class folders of "train" and, if there are some, of "test"."""
    if not base.is_dir():
        raise ReldropError(
            f"folder of {unit}s not found: looked in {listed([base])}; set dataset.folder to the folder that has the {unit}s, "
            "absolute, or relative to data_dir or to the current folder"
        )
    top = _splits(base)
    if top["train"]:
        used = [top["train"][0], *[path for path in top["test"] if subfolders(path)][:1]]
        if unused := [Path(path).name for paths in top.values() for path in paths if path not in used]:
            logger.warning(
                "%s: %s/ is not used, but %s/", base, "/, ".join(unused), "/ and ".join(map(os.path.basename, used))
            )
        return {split: class_folders(path, f"{unit}s") for split, path in zip(NAMES, used, strict=False)}
    if top["test"]:
        raise ReldropError(f"{base} has {Path(top['test'][0]).name}/ but no train/; add train/CLASS, or rename it")
    classes = class_folders(base, f"{unit}s")
    inner = {name: _splits(path) for name, path in classes.items()}
    if all(each["train"] and each["test"] for each in inner.values()):
        return {split: {name: each[split][0] for name, each in inner.items()} for split in NAMES}
    return {"train": classes}


def _splits(folder: str | Path) -> dict[str, list[str]]:
    """Return the folders in `folder` that are named like splits."""
    paths = {name.lower(): path for name, path in subfolders(folder).items()}
    return {split: [paths[name] for name in names if name in paths] for split, names in NAMES.items()}


def _set_aside(files: Found, classes: Sequence[str], base: Path, unit: str, test_share: float) -> dict[str, Found]:
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

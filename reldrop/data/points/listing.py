"""Which files make up a data set of point clouds: the published layouts, and folders of one's own.

All functions raise `ReldropError` for lists and folders that do not fit together, naming list, line and file.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reldrop.data.images.folders import class_names
from reldrop.data.points.files import SUFFIXES, h5_labels
from reldrop.data.splits import stratified_split
from reldrop.utils.errors import ReldropError

logger = logging.getLogger("reldrop")

SPLITS = ("train", "test")


@dataclass(frozen=True)
class CloudFile:
    """Where one cloud lies.

    Attributes:
        name: of the file, relative to the folder of the data set.
        label: position of its class.
        stamp: size in bytes and time of the last change in nanoseconds, of the file.
        row: which cloud of an HDF5 file; None where the file is one cloud.
    """

    name: str
    label: int
    stamp: tuple[int, int]
    row: int | None = None


@dataclass(frozen=True)
class Listing:
    """The clouds of a data set: training and test files, all below the folder `base`."""

    base: Path
    classes: tuple[str, ...]
    train: Sequence[CloudFile]
    test: Sequence[CloudFile]

    def labels(self, split: str) -> Tensor:
        """Return the labels of "train" or "test", int64 (n,)."""
        return torch.tensor([file.label for file in getattr(self, split)], dtype=torch.int64)


def from_lists(base: Path, prefix: str, names: Sequence[str], wanted: Sequence[str] | None = None) -> Listing:
    """List what PREFIX_train.txt and PREFIX_test.txt in `base` name, a cloud a line, as CLASS/NAME or as CLASS_NUMBER.

    Args:
        names: of all classes that the lists may have.
        wanted: names of the classes used; None for all.
    """
    labels = _labels(names, wanted, base)
    splits = {}
    for split in SPLITS:
        table, files = base / f"{prefix}_{split}.txt", []
        for number, entry in _lines(table):
            folder, stem = _class_and_name(entry)
            if folder not in names:
                raise ReldropError(
                    f"{table}, line {number}: {entry!r} is of no class there is; known are {', '.join(names)}"
                )
            if folder in labels:
                files.append(_listed_file(base, folder, stem, labels[folder], f"{table}, line {number}"))
        splits[split] = _some(files, table)
    _warn_of_missing(labels, splits["train"], f"{prefix}_train.txt")
    return Listing(base, tuple(labels), **splits)


def from_h5(base: Path, wanted: Sequence[str] | None = None) -> Listing:
    """List the clouds of the HDF5 files that train_files.txt and test_files.txt in `base` name (by any path)."""
    names = read_names(base / "shape_names.txt")
    labels = _labels(names, wanted, base)
    splits = {}
    for split in SPLITS:
        table, files = base / f"{split}_files.txt", []
        for number, entry in _lines(table):
            path = base / Path(entry).name
            stamp = _stamp(path)
            if stamp is None:
                raise ReldropError(f"{table}, line {number}: there is no {path}; unpack or download it again")
            for row, label in enumerate(h5_labels(str(path)).tolist()):
                if not 0 <= label < len(names):
                    raise ReldropError(
                        f"{path}[{row}] has label {label}, but {base / 'shape_names.txt'} {len(names)} names"
                    )
                if names[label] in labels:
                    files.append(CloudFile(path.name, labels[names[label]], stamp, row))
        splits[split] = _some(files, table)
    _warn_of_missing(labels, splits["train"], "train_files.txt")
    return Listing(base, tuple(labels), **splits)


def from_split_folders(base: Path, wanted: Sequence[str] | None = None) -> Listing:
    """List the meshes CLASS/train/*.off and CLASS/test/*.off in `base`."""
    names = tuple(name for name in class_names(base, "meshes") if (base / name / "train").is_dir())
    labels = _labels(names, wanted, base)
    splits: dict[str, list[CloudFile]] = {split: [] for split in SPLITS}
    for name, label in labels.items():
        for split in SPLITS:
            splits[split] += _folder_files(base, f"{name}/{split}", label, (".off",))
    return Listing(base, tuple(labels), **splits)


def from_folders(base: Path, test_share: float) -> Listing:
    """List the clouds CLASS/NAME.* in `base`, and set the share `test_share` of each class aside for testing."""
    names = class_names(base, "clouds")
    files = [file for label, name in enumerate(names) for file in _folder_files(base, name, label, SUFFIXES)]
    count = round(test_share * len(files))
    if not 1 <= count < len(files):
        raise ReldropError(
            f"test_share={test_share} of {len(files)} clouds leaves none on one side; "
            "choose a share between 0 and 1 that leaves some on both"
        )
    kept, aside = stratified_split(torch.tensor([file.label for file in files]), count, "test")
    return Listing(base, names, [files[index] for index in kept], [files[index] for index in aside])


def from_shapenet(base: Path) -> Listing:
    """List ShapeNetPart as its lists in train_test_split/ have it; what is for validation there, is for training here."""
    table = base / "synsetoffset2category.txt"
    rows = [entry.split() for _, entry in _lines(table)]
    if not rows or any(len(row) != 2 for row in rows):
        raise ReldropError(f"{table} must have a class a line, its name and its folder; unpack the archive again")
    labels = {synset: label for label, (_, synset) in enumerate(rows)}
    splits = {}
    for split, parts in (("train", ("train", "val")), ("test", ("test",))):
        files = []
        for part in parts:
            table = base / "train_test_split" / f"shuffled_{part}_file_list.json"
            for number, entry in enumerate(_read_json_list(table), 1):
                synset, name = ("", *entry.split("/"))[-2:]
                if synset not in labels:
                    raise ReldropError(
                        f"{table}, entry {number}: {entry!r} is of no class in {base / 'synsetoffset2category.txt'}"
                    )
                files.append(_listed_file(base, synset, name, labels[synset], f"{table}, entry {number}"))
        splits[split] = _some(files, table)
    names = tuple(name for name, _ in rows)
    _warn_of_missing(dict(zip(names, labels.values(), strict=True)), splits["train"], "train_test_split")
    return Listing(base, names, **splits)


def read_names(path: Path) -> tuple[str, ...]:
    """Return the lines of a file, such as the names of the classes.

    Raises:
        ReldropError: there are none, or there is no such file.
    """
    names = tuple(name for _, name in _lines(path))
    if not names:
        raise ReldropError(f"{path} is empty; it needs the names of the classes, one a line")
    return names


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    with _readable(path):
        text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _read_json_list(path: Path) -> list[str]:
    with _readable(path):
        entries = json.loads(path.read_text())
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ReldropError(f"{path} must be a list of names such as shape_data/02691156/NAME; unpack the archive again")
    return entries


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # undecodable text and JSON are ValueErrors
        raise ReldropError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}; add or replace it"
        ) from error


def _class_and_name(entry: str) -> tuple[str, str]:
    """Split CLASS/NAME or CLASS_NUMBER, with or without a suffix, into class and name."""
    entry = entry if Path(entry).suffix.lower() not in SUFFIXES else entry[: entry.rindex(".")]
    folder, _, name = entry.rpartition("/")
    return folder or name.rpartition("_")[0], name


def _listed_file(base: Path, folder: str, stem: str, label: int, where: str) -> CloudFile:
    for suffix in SUFFIXES:
        name = f"{folder}/{stem}{suffix}"
        if (stamp := _stamp(base / name)) is not None:
            return CloudFile(name, label, stamp)
    raise ReldropError(
        f"{where}: there is no {base / folder / stem}{SUFFIXES[0]} (nor {' '.join(SUFFIXES[1:])}); add it, or remove the "
        "entry"
    )


def _folder_files(base: Path, folder: str, label: int, suffixes: Sequence[str]) -> list[CloudFile]:
    path = base / folder
    found = sorted(
        entry.name
        for entry in (os.scandir(path) if path.is_dir() else ())
        if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in suffixes and entry.is_file()
    )
    if not found:
        raise ReldropError(f"{path} has no clouds; add some ({' '.join(suffixes)}) or remove the class")
    return [CloudFile(f"{folder}/{name}", label, _stamp(path / name) or (0, 0)) for name in found]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _labels(names: Sequence[str], wanted: Sequence[str] | None, base: Path) -> dict[str, int]:
    """Number the classes that are wanted, in the order of `names`."""
    for name in wanted or ():
        if name not in names:
            raise ReldropError(f"classes={name} is none of the classes of {base}, which are {', '.join(names)}")
    return {name: label for label, name in enumerate(name for name in names if wanted is None or name in wanted)}


def _some(files: list[CloudFile], table: Path) -> list[CloudFile]:
    if not files:
        raise ReldropError(f"{table} lists no clouds; it needs a line for each")
    return files


def _warn_of_missing(labels: Mapping[str, int], train: Sequence[CloudFile], where: str) -> None:
    present = {file.label for file in train}
    missing = [name for name, label in labels.items() if label not in present]
    if missing:
        logger.warning("%s lists no training clouds of %s", where, ", ".join(missing))

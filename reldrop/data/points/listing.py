"""Which files make up a data set of point clouds: the published layouts, and folders of one's own.

All functions raise `ReldropError` for lists and folders that do not fit together, naming list, line and file.
"""

import json
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from reldrop.data.folders import files_of_classes, find_files
from reldrop.data.paths import Files, class_folders, read_lines, read_text
from reldrop.data.points.cache import load_clouds
from reldrop.data.points.files import SPLITS, SUFFIXES, CloudFile, h5_labels
from reldrop.data.readers import Listing
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.text import unknown

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class FileListing(Listing):
    """The clouds of a data set, in files that are all below the folder `base`."""

    base: Path

    @classmethod
    def of(
        cls,
        base: Path,
        names: Sequence[str],
        files: Iterable[CloudFile],
        lists: str,
        wanted: Sequence[str] | None = None,
        form: str = "point files",
    ) -> Self:
        """Check files and choose those of some classes.

        Args:
            base: folder of the data set.
            names: of all classes that there are.
            lists: name of the lists that the files are from, for messages; `*` stands for the split.
            wanted: names of the classes used; None for all.
            form: of the files, in reports.
        """
        for name in wanted or ():
            if name not in names:
                raise ReldropError(f"classes={name} is none of the classes of {base}, which are {', '.join(names)}")
        labels = {name: label for label, name in enumerate(n for n in names if wanted is None or n in wanted)}
        chosen: dict[str, list[CloudFile]] = {split: [] for split in SPLITS}
        for file in files:
            if file.kind not in names:
                raise ReldropError(unknown(f"{file.where}: {file.kind!r} is no class", file.kind, names))
            if file.kind in labels:
                chosen[file.split].append(file)
        for split in SPLITS:
            if not chosen[split]:
                raise ReldropError(f"{base / lists.replace('*', split)} lists no clouds; it needs an entry for each")
        present = {file.kind for file in chosen["train"]}
        if missing := [name for name in labels if name not in present]:
            logger.warning("%s lists no training clouds of %s", lists.replace("*", "train"), ", ".join(missing))
        items = {key: Files(each, torch.tensor([labels[file.kind] for file in each])) for key, each in chosen.items()}
        name = base.resolve().name
        return cls(name, tuple(labels), **items, source=f"{form} in folder {name}", base=base)

    def read(
        self, chosen: Mapping[str, Tensor], name: str, points: int, normals: bool, machine: Machine
    ) -> dict[str, Tensor]:
        """Return the chosen clouds of each split, float32 (n, points, 6 or 3), sampled now or found sampled."""
        clouds = load_clouds(self, name, points, normals, machine)
        whole = {split: clouds["test" if split == "test" else "train"] for split in chosen}
        # Indexing would copy what is mapped.
        return {
            key: whole[key] if len(index) == len(whole[key]) else whole[key][index] for key, index in chosen.items()
        }


def from_lists(base: Path, prefix: str, names: Sequence[str], wanted: Sequence[str] | None = None) -> FileListing:
    """List what PREFIX_train.txt and PREFIX_test.txt in `base` name, a cloud a line, as CLASS/NAME or as CLASS_NUMBER.

    `names` are those of all classes that the lists may have, `wanted` those of the classes used; None for all.
    """

    def files() -> Iterator[CloudFile]:
        for split in SPLITS:
            for where, line in _paths(base / f"{prefix}_{split}.txt"):
                stem = line if Path(line).suffix.lower() not in SUFFIXES else line[: line.rindex(".")]
                folder, _, name = stem.rpartition("/")
                kind = folder or name.rpartition("_")[0]
                used = kind in (names if wanted is None else wanted)
                yield CloudFile(split, kind, _find(base, f"{kind}/{name}", where) if used else "", where=where)

    return FileListing.of(base, names, files(), f"{prefix}_*.txt", wanted)


def from_h5(base: Path, wanted: Sequence[str] | None = None) -> FileListing:
    """List the clouds of the HDF5 files that train_files.txt and test_files.txt in `base` name (by any path)."""
    names = read_names(base / "shape_names.txt")

    def files() -> Iterator[CloudFile]:
        for split in SPLITS:
            for where, line in _paths(base / f"{split}_files.txt"):
                path = base / Path(line).name
                if not path.is_file():
                    raise ReldropError(f"{where}: there is no {path}; unpack or download it again")
                for row, label in enumerate(h5_labels(str(path)).tolist()):
                    kind = names[label] if 0 <= label < len(names) else f"label {label}"
                    yield CloudFile(split, kind, path.name, row, f"{path}[{row}]")

    return FileListing.of(base, names, files(), "*_files.txt", wanted, "HDF5 files")


def from_split_folders(base: Path, wanted: Sequence[str] | None = None) -> FileListing:
    """List the meshes CLASS/train/*.off and CLASS/test/*.off in `base`."""
    names = [name for name in class_folders(base, "meshes") if (base / name / "train").is_dir()]
    used = [name for name in names if wanted is None or name in wanted]
    files = (
        CloudFile(split, name, os.path.relpath(file, base))
        for split in SPLITS
        for file, name in files_of_classes({name: f"{base / name}/{split}" for name in used}, (".off",), "cloud")
    )
    return FileListing.of(base, names, files, "CLASS/*", wanted, "meshes")


def from_folders(base: Path, test_share: float) -> FileListing:
    """List the clouds in folders of classes, split into train and test or not, see `find_files`."""
    names, found = find_files(base, SUFFIXES, "cloud", test_share)
    files = (CloudFile(split, name, os.path.relpath(file, base)) for split in SPLITS for file, name in found[split])
    return FileListing.of(base, names, files, base.name)


def from_shapenet(base: Path) -> FileListing:
    """List ShapeNetPart as its lists in train_test_split/ have it; what is for validation there, is for training here."""
    table = base / "synsetoffset2category.txt"
    rows = [line.split() for _, line in read_lines(table)]
    if not rows or any(len(row) != 2 for row in rows):
        raise ReldropError(f"{table} must have a class a line, its name and its folder; unpack the archive again")
    names = {folder: name for name, folder in rows}

    def files() -> Iterator[CloudFile]:
        for split, part in (("train", "train"), ("train", "val"), ("test", "test")):
            path = base / "train_test_split" / f"shuffled_{part}_file_list.json"
            content = read_text(path, json.loads)
            if not isinstance(content, list) or not all(isinstance(item, str) for item in content):
                raise ReldropError(
                    f"{path} must be a list of names such as shape_data/02691156/NAME; unpack the archive again"
                )
            for number, item in enumerate(content, 1):
                folder, name = ("", *item.replace("\\", "/").split("/"))[-2:]
                where = f"{path}, entry {number}"
                file = _find(base, f"{folder}/{name}", where) if folder in names else ""
                yield CloudFile(split, names.get(folder, folder), file, where=where)

    return FileListing.of(base, tuple(names.values()), files(), "train_test_split/shuffled_*_file_list.json")


def read_names(path: Path) -> tuple[str, ...]:
    """Return the lines of a file, such as the names of the classes.

    Raises:
        ReldropError: there are none, or there is no such file.
    """
    names = tuple(name for _, name in read_lines(path))
    if not names:
        raise ReldropError(f"{path} is empty; it needs the names of the classes, one a line")
    return names


def _paths(path: Path) -> Iterator[tuple[str, str]]:
    """Yield `read_lines` that are paths, with the separators of this system."""
    return ((where, line.replace("\\", "/")) for where, line in read_lines(path))


def _find(base: Path, stem: str, where: str) -> str:
    """Return a name in a list with the suffix of its file, in the Unicode form that the file has."""
    for form in (stem, unicodedata.normalize("NFD", stem)):
        for suffix in SUFFIXES:
            if (base / f"{form}{suffix}").is_file():
                return form + suffix
    raise ReldropError(
        f"{where}: there is no {base / stem}{SUFFIXES[0]} (nor {' '.join(SUFFIXES[1:])}); add it, or remove the entry"
    )

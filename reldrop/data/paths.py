"""Folders of data: where they are looked for, and which classes and files are in them."""

import os
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from reldrop.utils.errors import ReldropError

T = TypeVar("T")

WHERE_ELSE = "set data_dir=PATH (or the environment variable RELDROP_DATA) to the folder that holds it"
JUNK = {"@eaDir", "#recycle", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"}  # of systems


@dataclass(frozen=True)
class Files:
    """N items that are not read yet, and their labels, int64 (N,).

    `paths` says what is read: for images their files; for clouds, also which one of a file.
    """

    paths: Sequence[Any]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> "Files":
        return Files([self.paths[index] for index in indices.tolist()], self.labels[indices])


def candidates(root: str | Path, folders: Sequence[str]) -> list[Path]:
    """Return `folders`, relative to `root` or absolute."""
    return [Path(root).expanduser() / Path(folder).expanduser() for folder in folders]


def first(paths: Sequence[Path], found: Callable[[Path], bool]) -> Path | None:
    """Return the first path for which `found` holds, or None."""
    return next(filter(found, paths), None)


def own_folder(root: str | Path, folder: str | float) -> Path:
    """Return a folder that a user names, relative to `root` or else to the current folder, or absolute."""
    paths = [path for base in (root, ".") for path in candidates(base, [str(folder)])]
    return first(paths, Path.is_dir) or paths[0]


def listed(paths: Sequence[Path]) -> str:
    """Return the paths in words, with a note to those that are no folders."""
    return ", ".join(str(path) if path.is_dir() else f"{path} (no such folder)" for path in paths)


def described(what: str, folder: Path) -> str:
    """Return what was read in words, for reports: with the folder's name, not its path."""
    return f"{what} in folder {folder.resolve().name}"


def subfolders(folder: str | Path) -> dict[str, str]:
    """Return the paths of the folders in `folder` by their names, sorted; links to folders count.

    Names are in Unicode's composed form (NFC), since the same name may be stored in several. Hidden folders and those
    that systems make are left out.

    Raises:
        ReldropError: it cannot be read, or two names differ in their form alone.
    """
    paths, _ = contents(folder)
    named = dict(sorted((unicodedata.normalize("NFC", os.path.basename(path)), path) for path in paths))
    if twice := set(paths) - set(named.values()):
        raise ReldropError(f"{min(twice)} is there in two Unicode forms of its name, as if it were two; merge them")
    return named


def class_folders(folder: str | Path, items: str = "images") -> dict[str, str]:
    """Return the `subfolders` of a folder; `items` says in the message what they hold.

    Raises:
        ReldropError: there is none.
    """
    if not (found := subfolders(folder)):
        raise ReldropError(f"{folder} has no class folders; it needs a folder of {items} for each class")
    return found


def files_below(folder: str | Path, suffixes: Collection[str]) -> list[str]:
    """Return the files of `folder`/** that have one of the suffixes, sorted.

    Links are followed, but no folder is read twice. Hidden files and what systems put beside them are left out.

    Raises:
        ReldropError: a folder cannot be read.
    """
    above = (*Path(os.path.realpath(folder)).parents, *Path(folder).absolute().parents)
    found, seen, waiting = [], {os.path.realpath(path) for path in above}, [str(folder)]
    while waiting:
        directory = waiting.pop()
        if (real := os.path.realpath(directory)) in seen:
            continue
        seen.add(real)
        folders, files = contents(directory)
        waiting += folders
        found += [path for path in files if os.path.splitext(path)[1].lower() in suffixes]
    return sorted(found)


def read_text(path: Path, parse: Callable[[str], T] = str) -> T:
    """Return what `parse` makes of a text file in UTF-8, perhaps with a byte order mark; names in it are composed (NFC).

    Raises:
        ReldropError: it cannot be read or parsed.
    """
    try:
        return parse(unicodedata.normalize("NFC", path.read_text("utf-8-sig")))
    except (OSError, ValueError) as error:  # undecodable text and JSON are ValueErrors
        raise ReldropError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}; add or replace it"
        ) from error


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a text file that are not blank, each behind the words for where it is, see `read_text`."""
    lines = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}, line {number}", line.strip()) for number, line in lines if line.strip()]


def contents(folder: str | Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files in a folder, sorted, without what is hidden or made by systems.

    Links count as what they lead to, and as files if that is nothing: to be an error when they are read.

    Raises:
        ReldropError: it cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ReldropError(f"cannot read the folder {folder} ({error.strerror})") from error
    folders, files = [], []
    for entry in entries:
        if entry.name.startswith(".") or entry.name in JUNK:
            continue
        linked = entry.is_symlink()  # the tests of an entry cost nothing, but fail for a link that leads to itself
        if os.path.isdir(entry.path) if linked else entry.is_dir():
            folders.append(entry.path)
        elif (os.path.isfile(entry.path) or not os.path.exists(entry.path)) if linked else entry.is_file():
            files.append(entry.path)
    return folders, files

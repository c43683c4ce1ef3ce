"""Where data sets are looked for, and the words for it in messages."""

from collections.abc import Callable, Sequence
from pathlib import Path

WHERE_ELSE = "set data_dir=PATH (or the environment variable RELDROP_DATA) to the folder that holds it"


def candidates(root: str | Path, folders: Sequence[str]) -> list[Path]:
    """Return `folders`, relative to `root` or absolute."""
    return [Path(root).expanduser() / folder for folder in folders]


def first(paths: Sequence[Path], found: Callable[[Path], bool]) -> Path | None:
    """Return the first path for which `found` holds, or None."""
    return next(filter(found, paths), None)


def listed(paths: Sequence[Path]) -> str:
    """Return the paths in words, with a note to those that are no folders."""
    return ", ".join(str(path) if path.is_dir() else f"{path} (no such folder)" for path in paths)


def described(what: str, folder: Path) -> str:
    """Return what was read in words, for reports: with the folder's name, not its path."""
    return f"{what} in folder {folder.resolve().name}"

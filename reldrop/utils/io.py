"""Files that are written as a whole or not at all."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from reldrop.utils.errors import ReldropError, first_line

Content = TypeVar("Content")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends well; until then, and otherwise, `path` stays."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, must outlive a power cut
    finally:
        os.close(folder)


@contextmanager
def writing(what: str, advice: str = "") -> Iterator[None]:
    """Say in one sentence that something cannot be written, and perhaps what to do about it.

    Raises:
        ReldropError: in place of any `OSError` of the block.
    """
    try:
        yield
    except OSError as error:
        raise ReldropError(f"cannot write {what} ({error.strerror or error}){advice and '; '}{advice}") from error


def read(
    path: Path, load: Callable[[Path], Content], advice: str = "", kind: type[ReldropError] = ReldropError
) -> Content:
    """Return what `load` makes of a file.

    Args:
        path: the file.
        load: reads it; what it raises goes into the message.
        advice: what to do about a damaged file.
        kind: of the error.

    Raises:
        ReldropError: if the file is damaged, missing, or may not be read.
    """
    try:
        return load(path)
    except Exception as error:  # depending on which bytes are wrong, almost any
        what = "cannot be read" if isinstance(error, OSError) else "is damaged"
        raise kind(f"{path} {what} ({first_line(error)}){advice and '; '}{advice}") from error


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    """Write a JSON file as a whole or not at all; numbers that are not finite become null."""
    write_text_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Replace what JSON cannot hold, infinite and undefined numbers, by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Files that are written as a whole or not at all, and files that are built once."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from reldrop.utils.errors import ReldropError, first_line

T = TypeVar("T")

logger = logging.getLogger("reldrop")


def load_or_build(path: Path, load: Callable[[Path], T], build: Callable[[Path], None], lock: Path, name: str) -> T:
    """Load a file; build it first where it is missing or damaged. Of several processes one builds, and the others wait.

    Args:
        path: of the file; its folder is made where it is missing.
        load: raises FileNotFoundError where there is no file, ValueError where it is damaged.
        build: writes the file.
        lock: file that is locked meanwhile. A killed process holds no lock.
        name: of what is built, for messages.

    Raises:
        OSError: the folder cannot be written.
        ReldropError: the file cannot be loaded after it was built.
    """
    try:
        return load(path)
    except (FileNotFoundError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(lock, name):
        try:
            return load(path)  # another process may have built it by now
        except FileNotFoundError:
            pass
        except ValueError as error:
            logger.warning("%s is damaged (%s); preparing it again", path, error)
        build(path)
        try:
            return load(path)
        except (FileNotFoundError, ValueError) as error:
            raise ReldropError(f"{path} is damaged right after it was written ({error}); use another folder") from error


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file, after whoever else holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is preparing %s; waiting for it", name)
        held = lock.acquire()
    with held:
        yield


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


def absolute(path: Any) -> Path:
    """Return a path from the current folder as an absolute one, with ~ and ~USER as their home.

    Raises:
        ReldropError: if there is no such home.
    """
    try:
        return Path(str(path)).expanduser().absolute()  # YAML reads a folder 2024 as a number
    except RuntimeError as error:
        raise ReldropError(f"{path} leads to no folder: there is no such user, or no home") from error


@contextmanager
def writing(what: str, advice: str = "") -> Iterator[None]:
    """Raise a `ReldropError` in place of any `OSError` of the block: what cannot be written, and perhaps what to do."""
    try:
        yield
    except OSError as error:
        raise ReldropError(f"cannot write {what} ({error.strerror or error}){advice and '; '}{advice}") from error


def read(path: Path, load: Callable[[Path], T], advice: str = "", kind: type[ReldropError] = ReldropError) -> T:
    """Return what `load` makes of a file; an error becomes one of `kind`, with the advice."""
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

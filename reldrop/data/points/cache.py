"""The prepared clouds of a data set in one file: made by the first use, mapped into memory by all later ones."""

import fcntl
import hashlib
import json
import logging
import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reldrop.data.points.dataset import Points
from reldrop.data.points.listing import SPLITS, CloudFile, Listing
from reldrop.data.points.preprocessing import sample_all
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import atomic_write
from reldrop.utils.types import WholeNumber, checked

logger = logging.getLogger("reldrop")

FORMAT = 1  # to be raised whenever other clouds are made of the same files


@checked
@dataclass(frozen=True)
class CacheSpec:
    """What is made of the files, and where it is kept.

    Attributes:
        points: of each cloud.
        normals: whether clouds have the normals of their points.
        cache_dir: folder of the prepared files.
        workers: processes that read files; None for one a core, 0 for the calling process alone.

    Raises:
        ReldropError: one of them is out of range.
    """

    points: Points
    normals: bool
    cache_dir: str
    workers: WholeNumber | None


def load_or_build(listing: Listing, name: str, how: CacheSpec) -> dict[str, Tensor]:
    """Return the clouds of each split, float32 (N, points, 6 or 3), mapped from a file that is made where it is missing.

    Args:
        listing: which clouds.
        name: of the data set, which the file's name begins with.
        how: number of points and so on.

    Raises:
        ReldropError: a file is no cloud, or the prepared ones cannot be written.
    """
    stem = re.sub(r"[^\w.+=-]", "_", name) + f"-{how.points}" + ("" if how.normals else "-xyz")
    path = Path(how.cache_dir).expanduser() / f"{stem}-{_key(listing, how)}.safetensors"
    clouds = _load(path, listing, name, how, report=False)
    if clouds is not None:
        return clouds
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A reading process imports the script that started it. One that is not guarded arrives here again, where it
        # would wait for the lock that its parent holds.
        raise RuntimeError("clouds are prepared by the main process: call this under `if __name__ == '__main__':`")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f".{stem}.lock"), name):
            clouds = _load(path, listing, name, how, report=True)  # made by another process, by now?
            if clouds is None:
                _make(path, listing, name, how)
                _remove_others(path, stem)
                clouds = _load(path, listing, name, how, report=True)
    except OSError as error:
        raise ReldropError(
            f"cannot keep the prepared clouds of {name} in {path.parent} ({error.strerror or error}); set "
            "dataset.cache_dir to a folder that can be written"
        ) from error
    if clouds is None:
        raise ReldropError(f"{path} is damaged right after it was written; set dataset.cache_dir to another folder")
    return clouds


def _make(path: Path, listing: Listing, name: str, how: CacheSpec) -> None:
    files = [*listing.train, *listing.test]
    logger.info(
        "preparing %s: %d clouds of %d points, once; they are kept in %s", name, len(files), how.points, path.parent
    )
    clouds, few = sample_all(listing.base, files, how.points, how.normals, how.workers)
    cut = len(listing.train)
    tensors = {
        f"{split}_points": torch.from_numpy(part) for split, part in zip(SPLITS, np.split(clouds, [cut]), strict=True)
    }
    tensors |= {f"{split}_labels": listing.labels(split) for split in SPLITS}
    with atomic_write(path) as file:
        file.write(save(tensors, {"few": str(few)}))


def _load(path: Path, listing: Listing, name: str, how: CacheSpec, report: bool) -> dict[str, Tensor] | None:
    """Map the prepared clouds; None where there are none, or damaged ones (with a warning if `report`)."""
    try:
        with safe_open(path, "pt") as file:  # refuses a file of another length than its header says
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            few = int(file.metadata()["few"])
        for split in SPLITS:
            labels = listing.labels(split)
            shape = (len(labels), how.points, 6 if how.normals else 3)
            if tensors[f"{split}_points"].shape != shape or not torch.equal(tensors[f"{split}_labels"], labels):
                raise ValueError("it has other clouds than its name says")
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        if report:
            logger.warning("%s is damaged (%s); preparing the clouds again", path, error)
        return None
    if few:
        logger.warning(
            "%d of the %d clouds of %s have fewer than %d points; some of theirs are repeated",
            few,
            len(listing.train) + len(listing.test),
            name,
            how.points,
        )
    return {split: tensors[f"{split}_points"] for split in SPLITS}


def _key(listing: Listing, how: CacheSpec) -> str:
    """Return 12 hexadecimal digits that stand for the files, as they are now, and what is made of them."""

    def rows(files: list[CloudFile]) -> list[list[object]]:
        return [[file.name, file.row, file.label, *file.stamp] for file in files]

    content = [FORMAT, listing.classes, rows(listing.train), rows(listing.test), how.points, how.normals]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _remove_others(path: Path, stem: str) -> None:
    """Remove what was prepared from an earlier state of the files, and what a kill has left."""
    for pattern in (f"{stem}-{'[0-9a-f]' * 12}.safetensors", f".{stem}-{'[0-9a-f]' * 12}.safetensors.tmp"):
        for other in path.parent.glob(pattern):
            if other != path:
                other.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file, waiting for whoever else holds it; the system lets go of it when a process is killed."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is preparing %s; waiting for it", name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

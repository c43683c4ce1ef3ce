"""The prepared clouds of a data set in one file: made by the first use, mapped into memory by all later ones."""

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reldrop.data.points.files import SPLITS
from reldrop.data.points.preprocessing import sample_all
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import atomic_write, load_or_build
from reldrop.utils.machine import Machine

if TYPE_CHECKING:
    from reldrop.data.points.listing import FileListing

logger = logging.getLogger("reldrop")

FORMAT = 1  # to be raised whenever other clouds are made of the same files


def load_clouds(listing: "FileListing", name: str, points: int, normals: bool, machine: Machine) -> dict[str, Tensor]:
    """Return the clouds of each split, float32 (N, points, 6 or 3), mapped from a file that is made where it is missing.

    Args:
        listing: which clouds.
        name: of the data set, which the file's name begins with.
        points: of each cloud.
        normals: whether clouds have the normals of their points.
        machine: says where the file is kept, and how many processes read.

    Raises:
        ReldropError: a file is no cloud, or the prepared ones cannot be written.
    """
    stem = re.sub(r"[^\w.+=-]", "_", name) + f"-{points}" + ("" if normals else "-xyz")
    folder = machine.cache.expanduser()
    files = [*listing.train.paths, *listing.test.paths]

    def load(path: Path) -> tuple[dict[str, Tensor], int]:
        """Map the clouds; also return how many of them had fewer points."""
        try:
            with safe_open(path, "pt") as file:  # refuses a file of another length than its header says
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                few = int(file.metadata()["few"])
            clouds = {split: tensors[f"{split}_points"] for split in SPLITS}
            for split in SPLITS:
                labels = getattr(listing, split).labels
                shape = (len(labels), points, 6 if normals else 3)
                if clouds[split].shape != shape or not tensors[f"{split}_labels"].equal(labels):
                    raise ValueError("it has other clouds than its name says")
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error
        return clouds, few

    def build(path: Path) -> None:
        logger.info("preparing %s: %d clouds of %d points, once; they are kept in %s", name, len(files), points, folder)
        clouds, few = sample_all(listing.base, files, points, normals, machine)
        tensors = {f"{split}_labels": getattr(listing, split).labels for split in SPLITS}
        for split, part in zip(SPLITS, np.split(clouds, [len(listing.train)]), strict=True):
            tensors[f"{split}_points"] = torch.from_numpy(part)
        with atomic_write(path) as file:
            file.write(save(tensors, {"few": str(few)}))
        # Remove what was prepared from an earlier state of the files, and what a kill has left.
        for pattern in (f"{stem}-{'[0-9a-f]' * 12}.safetensors", f".{stem}-{'[0-9a-f]' * 12}.safetensors.tmp"):
            for other in folder.glob(pattern):
                if other != path:
                    other.unlink(missing_ok=True)

    path = folder / f"{stem}-{_key(listing, points, normals)}.safetensors"
    try:
        clouds, few = load_or_build(path, load, build, folder / f".{stem}.lock", name)
    except OSError as error:
        raise ReldropError(
            f"cannot keep the prepared clouds of {name} in {folder} ({error.strerror or error}); set machine.cache_dir to "
            "a folder that can be written"
        ) from error
    if few:
        logger.warning(
            "%d of the %d clouds of %s have fewer than %d points; some of theirs are repeated",
            *(few, len(files), name, points),
        )
    return clouds


def _key(listing: "FileListing", points: int, normals: bool) -> str:
    """Return 12 hexadecimal digits that stand for the files, as they are now, and what is made of them."""
    content: list[object] = [FORMAT, listing.classes]
    for split in SPLITS:
        rows, clouds = [], getattr(listing, split)
        for file, label in zip(clouds.paths, clouds.labels.tolist(), strict=True):
            try:
                status = (listing.base / file.name).stat()
            except OSError as error:
                where = listing.base / file.name
                raise ReldropError(f"cannot read cloud {where} ({error.strerror}); replace or remove it") from error
            rows.append([file.name, file.row, label, status.st_size, status.st_mtime_ns])
        content.append(rows)
    return hashlib.sha256(json.dumps([*content, points, normals]).encode()).hexdigest()[:12]

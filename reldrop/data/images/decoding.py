"""From image files to uint8 tensors: all at once into memory, or a batch at a time by worker processes."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from reldrop.data.images.crops import CropFn, RandomResizedCrop, resize_center_crop
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator
from reldrop.utils.signals import ignore_signals
from reldrop.utils.types import checked

logger = logging.getLogger("reldrop")

PROGRESS_FROM = 2000  # files; fewer are decoded before a progress bar could be read


@checked
@dataclass(frozen=True)
class DecodeOptions:
    """How image files are read.

    Attributes:
        frame: what is seen of an image.
        crop: what training sees of it instead, drawn anew each time; None for what `frame` shows.
        on_decode_error: what becomes of a file that cannot be decoded. "error" stops and names it. "skip" names it in a
            warning: training then has the next readable image of the same batch in its place, in a crop of its own, so
            that batches keep their sizes; evaluation goes without it.

    Raises:
        ReldropError: `on_decode_error` is neither.
    """

    frame: CropFn = resize_center_crop
    crop: RandomResizedCrop | None = None
    on_decode_error: Literal["error", "skip"] = "error"


PLAIN = DecodeOptions()


def decode(path: str, size: int, frame: CropFn = resize_center_crop) -> np.ndarray:
    """Return an image file as RGB, uint8 (3, size, size); by default its short side is resized, its center cropped.

    Raises:
        ReldropError: the file cannot be decoded; the message names it.
    """
    try:
        with Image.open(path) as image:
            square = frame(image, size)
    except Exception as error:  # Pillow raises many types for damaged files, SyntaxError and struct.error among them
        raise ReldropError(f"cannot decode image {path}: {error}; replace or remove it") from error
    return np.asarray(square).transpose(2, 0, 1)


def decode_all(
    paths: Sequence[str], size: int, description: str, reading: DecodeOptions = PLAIN
) -> tuple[Tensor, Tensor]:
    """Decode `paths` in threads.

    Args:
        paths: N image files.
        size: side of the square images, in pixels.
        description: what is being decoded, for the progress bar (shown for many files on a terminal).
        reading: how.

    Returns:
        Images, uint8 (n, 3, size, size), and where in `paths` they are, int64 (n,): all, or what can be decoded.

    Raises:
        ReldropError: a file cannot be decoded, or, where such are skipped, none can.
    """
    images = np.empty((len(paths), 3, size, size), np.uint8)
    readable = []

    def attempt(path: str) -> np.ndarray | ReldropError:
        try:
            return decode(path, size, reading.frame)
        except ReldropError as error:
            return error

    quiet = len(paths) <= PROGRESS_FROM or not sys.stderr.isatty()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        decoded = pool.map(attempt, paths)
        for index, image in enumerate(tqdm(decoded, f"decode {description}", len(paths), disable=quiet)):
            if isinstance(image, ReldropError):
                if reading.on_decode_error == "error":
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise image
                logger.warning("left out: %s", image)
                continue
            images[len(readable)] = image
            readable.append(index)
    if not readable:
        raise ReldropError(f"none of the {len(paths)} images of {description} can be decoded; replace them")
    return torch.from_numpy(images[: len(readable)]), torch.tensor(readable)


@dataclass(frozen=True)
class _Batch:
    """What a worker is asked for: the images of `paths`, in the crops of `draws` (a row each) if there are any."""

    paths: list[str]
    draws: np.ndarray | None
    whole: bool  # whether others take the places of images that cannot be decoded
    rows: slice  # of these paths only; the others may take their places


class _BatchDecoder(Dataset):
    """What the worker processes run: from a batch's paths to its images.

    They come with the place in the batch of the image that each of them is of, and a message for each path that cannot
    be decoded: a DataLoader would wrap a raised error in the worker's traceback.
    """

    def __init__(self, size: int, reading: DecodeOptions) -> None:
        self.size, self.reading = size, reading

    def __getitem__(self, batch: _Batch) -> tuple[Tensor, list[int], dict[str, str]]:
        count = len(batch.paths)
        rows = range(count)[batch.rows]
        images = np.empty((len(rows), 3, self.size, self.size), np.uint8)
        places: list[int] = []
        failures: dict[str, str] = {}
        for place in rows:
            frame = self.reading.frame
            if batch.draws is not None and self.reading.crop is not None:
                frame = partial(self.reading.crop, draws=batch.draws[place])
            for step in range(count if batch.whole else 1):
                source = (place + step) % count
                path = batch.paths[source]
                if path in failures:
                    continue
                try:
                    images[len(places)] = decode(path, self.size, frame)
                except ReldropError as error:
                    failures[path] = str(error)
                    if self.reading.on_decode_error == "error":
                        return torch.empty(0), [], failures
                else:
                    places.append(source)
                    break
        return torch.from_numpy(images[: len(places)]), places, failures


class _Batches:
    """The batches of one iteration of a DataLoader, made as its workers need them."""

    def __init__(self) -> None:
        self.iterable: Iterable[_Batch] = ()

    def __iter__(self) -> Iterator[_Batch]:
        return iter(self.iterable)


def _take(batches: Iterator[object]) -> None:
    """Take what workers have in hand: if nobody did, it would be 5 s for each worker until they end."""
    with suppress(RuntimeError, OSError, EOFError):  # where an interruption has ended them already
        for _ in batches:
            pass


class StreamedImages:
    """Image files that are decoded whenever they are used, for data sets larger than memory and for random crops.

    Args:
        paths: N image files.
        size: side of the square images, in pixels.
        workers: number of decoding processes; 0 decodes in the calling process.
        reading: how.
    """

    def __init__(self, paths: Sequence[str], size: int, workers: int, reading: DecodeOptions = PLAIN) -> None:
        self.paths, self.workers, self.reading = paths, workers, reading
        self._decoder = _BatchDecoder(size, reading)
        self._idle: list[DataLoader] = []
        self._named: set[str] = set()  # files that a warning has named

    def __len__(self) -> int:
        return len(self.paths)

    def batches(
        self,
        indices: Sequence[Tensor],
        pin_memory: bool,
        whole: bool = False,
        draws: Iterable[np.ndarray] | None = None,
        rows: Sequence[slice] | None = None,
    ) -> Iterator[tuple[Tensor, list[int] | None]]:
        """Yield the images of each (b,) tensor of indices.

        Args:
            indices: of the batches.
            pin_memory: whether the images are put into page-locked memory, for copies to a CUDA device.
            whole: whether a readable image of the batch takes the place of one that is skipped.
            draws: for the random crops of each batch, see `RandomResizedCrop.draw`; made as the workers need them.
            rows: which images of each batch are wanted; None for all.

        Yields:
            Images, uint8 (n, 3, size, size) on the CPU, and which of the batch they are of, n places in it, or None
            for all that are wanted, in their order.

        Raises:
            ReldropError: a file cannot be decoded, or, where such are skipped, none of a whole batch or of all can.
        """
        # A loader's workers persist from epoch to epoch, but serve one iteration at a time. One that is in use, as when
        # training images are evaluated amid an epoch, is left alone.
        loader = self._idle.pop() if self._idle else self._loader(pin_memory)
        rows = rows or [slice(None)] * len(indices)
        asked = (
            _Batch([self.paths[index] for index in batch.tolist()], numbers, whole, wanted)
            for batch, numbers, wanted in zip(indices, repeat(None) if draws is None else draws, rows, strict=False)
        )
        loader.sampler.iterable = asked
        skipped = delivered = 0
        decoded = iter(loader)
        try:
            for images, places, failures in decoded:
                if failures and self.reading.on_decode_error == "error":
                    raise ReldropError(next(iter(failures.values())))
                self._name(failures)
                if whole and not places:
                    raise ReldropError(f"no image of a batch of {len(failures)} can be decoded; replace or remove them")
                skipped, delivered = skipped + len(failures), delivered + len(places)
                yield images, places if failures else None
        except (GeneratorExit, ReldropError):
            asked.close()
            _take(decoded)
            raise
        finally:
            self._idle.append(loader)
        count = sum(len(batch[wanted]) for batch, wanted in zip(indices, rows, strict=True))
        if count and not delivered:
            raise ReldropError(f"none of {count} images can be decoded; replace or remove them")
        if skipped:
            done = "replaced by others of their batches" if whole else "left out"
            logger.warning("%d of %d images could not be decoded and were %s", skipped, count, done)

    def _name(self, failures: dict[str, str]) -> None:
        for path, message in failures.items():
            if path not in self._named:
                self._named.add(path)
                logger.warning("skipped: %s", message)

    def _loader(self, pin_memory: bool) -> DataLoader:
        return DataLoader(
            self._decoder,
            batch_size=None,  # no collation: an "index" of this sampler is a whole batch
            sampler=_Batches(),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=ignore_signals,
            generator=generator(0, "loader"),  # else it draws from the global one
        )

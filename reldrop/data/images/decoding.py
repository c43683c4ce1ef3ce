"""From image files to uint8 tensors: batch by batch as they are used, or all at once into memory."""

import atexit
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from reldrop.data.images.crops import CropFn, RandomResizedCrop, resize_center_crop
from reldrop.distributed.sharding import ALL, BatchSharder
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator
from reldrop.utils.signals import ignore_signals
from reldrop.utils.types import checked

Extra = TypeVar("Extra")

logger = logging.getLogger("reldrop")

PROGRESS_FROM = 2000  # files; fewer are decoded before a progress bar could be read
MEMORY_BATCH = 64  # files a worker decodes at a time, on their way into memory


@checked
@dataclass(frozen=True)
class DecodeOptions:
    """How image files are read.

    Attributes:
        frame: the part of an image that is seen, as a square.
        crop: random crops that training sees instead; None for what `frame` shows.
        on_decode_error: "error" stops at a file that cannot be decoded and names it. "skip" names it in a warning:
            training then has the next readable image of the same batch in its place, in a crop of its own, so that
            batches keep their sizes; evaluation leaves it out.
        grayscale: whether images have one channel, gray, in place of red, green and blue.
    """

    frame: CropFn = resize_center_crop
    crop: RandomResizedCrop | None = None
    on_decode_error: Literal["error", "skip"] = "error"
    grayscale: bool = False

    @property
    def channels(self) -> int:
        return 1 if self.grayscale else 3


PLAIN = DecodeOptions()


def decode(path: str, size: int, frame: CropFn = resize_center_crop, grayscale: bool = False) -> np.ndarray:
    """Return an image file as RGB, uint8 (3, size, size), or gray, (1, size, size).

    By default its short side is resized, its center cropped.

    Raises:
        ReldropError: the file cannot be decoded; the message names it.
    """
    with open_image(path) as image:
        square = frame(image, size)
        return np.atleast_3d(square.convert("L") if grayscale else square).transpose(2, 0, 1).copy()


@contextmanager
def open_image(path: str | Path, kind: str = "image") -> Iterator[Image.Image]:
    """Open an image file; an error with it in the block becomes a `ReldropError` that names it."""
    try:
        with Image.open(path) as image:
            if image.format == "TIFF" and image.mode == "I":
                raise ValueError("integer pixels of 32 bits, or with a sign, have no fixed range")
            yield image
    except Exception as error:  # Pillow raises many types for damaged files, SyntaxError and struct.error among them
        raise ReldropError(f"cannot decode {kind} {path}: {error}; replace or remove it") from error


class StreamedImages(Dataset):
    """Image files that are decoded whenever they are used: for data sets larger than memory, and for random crops.

    Args:
        paths: N image files.
        size: side of the square images, in pixels.
        workers: number of decoding processes; 0 decodes in the calling process.
        reading: how.
    """

    def __init__(self, paths: Sequence[str], size: int, workers: int, reading: DecodeOptions = PLAIN) -> None:
        self.paths, self.size, self.workers, self.reading = paths, size, workers, reading
        self._named: set[str] = set()  # messages that were logged

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int | None]) -> tuple[Tensor, str]:
        """Return an image, uint8 (C, size, size), by its index and the seed of its random crop, None for no such crop.

        If it cannot be decoded: zeros, and the message of the error; a DataLoader would wrap one in a worker's traceback.
        """
        index, seed = item
        frame, crop = self.reading.frame, self.reading.crop
        if crop is not None and seed is not None:
            frame = partial(crop, seed=seed)
        try:
            return torch.from_numpy(decode(self.paths[index], self.size, frame, self.reading.grayscale)), ""
        except ReldropError as error:
            return torch.zeros(self.reading.channels, self.size, self.size, dtype=torch.uint8), str(error)

    def batches(
        self,
        order: Tensor,
        batch_size: int,
        sharder: BatchSharder = ALL,
        *,
        seed: int | None = None,
        pin_memory: bool = False,
    ) -> Iterator[tuple[Tensor, list[int] | None]]:
        """Yield the images of `order`, int64.

        Args:
            sharder: which rows of each batch to yield.
            seed: for training: of the random crops, if there are such; each depends on it and on the image's index alone.
                Another image of the batch then takes the place of one that is skipped. None for evaluation.
            pin_memory: whether the images are put into page-locked memory, for copies to a CUDA device.

        Yields:
            Images, uint8 (n, C, size, size) on the CPU, and the rows of the whole batch that they are from; None for
            those of the sharder, in their order.

        Raises:
            ReldropError: a file cannot be decoded, or, where such are skipped, none of a batch or of all can.
        """
        batches = [batch.tolist() for batch in order.split(batch_size)]
        rows = [range(len(batch))[sharder.shard(len(batch)).rows] for batch in batches]
        asked = (
            [(batch[row], None if seed is None else seed + batch[row]) for row in own]
            for batch, own in zip(batches, rows, strict=True)
        )
        workers = min(self.workers, len(batches))
        if workers:
            _end_workers_at_exit()
        loader = DataLoader(
            self,
            batch_sampler=asked,
            num_workers=workers,
            pin_memory=pin_memory,
            worker_init_fn=ignore_signals,
            generator=generator(0, "loader"),  # else it draws from the global one
        )
        skipped = delivered = 0
        for batch, own, (images, messages) in zip(batches, rows, _explained(loader), strict=True):
            failed = [place for place, message in enumerate(messages) if message]
            sources = list(own) if failed else None
            self._skip(filter(None, messages))
            if failed and seed is None:
                kept = [place for place in range(len(own)) if place not in failed]
                images, sources = images[kept], [own[place] for place in kept]
            elif failed:
                for place in failed:
                    sources[place], images[place] = self._next_readable(batch, own[place], seed)
            skipped, delivered = skipped + len(failed), delivered + len(images)
            yield images, sources
        if skipped and not delivered:
            raise ReldropError(f"none of {skipped} images can be decoded; replace or remove them")
        if skipped:
            done = "left out" if seed is None else "replaced by others of their batches"
            logger.warning("%d of %d images could not be decoded and were %s", skipped, sum(map(len, rows)), done)

    def load(self, description: str, progress: bool = True) -> tuple[Tensor, Tensor]:
        """Decode all files.

        Args:
            description: what is decoded, for the progress bar.
            progress: whether to show one, for many files on a terminal.

        Returns:
            Images, uint8 (n, C, size, size), and their indices, int64 (n,): all, or those that can be decoded.

        Raises:
            ReldropError: a file cannot be decoded, or, where such are skipped, none can.
        """
        images = torch.empty(len(self), self.reading.channels, self.size, self.size, dtype=torch.uint8)
        kept, order = [], torch.arange(len(self))
        batches = zip(order.split(MEMORY_BATCH), self.batches(order, MEMORY_BATCH), strict=True)
        quiet = not progress or len(self) <= PROGRESS_FROM or not sys.stderr.isatty()
        with tqdm(total=len(self), desc=f"decode {description}", disable=quiet) as bar:
            for batch, (decoded, sources) in batches:
                images[len(kept) : len(kept) + len(decoded)] = decoded
                kept += batch.tolist() if sources is None else batch[sources].tolist()
                bar.update(len(batch))
        return images[: len(kept)], torch.tensor(kept)

    def _skip(self, messages: Iterable[str]) -> None:
        """Name files that cannot be decoded, each once, or stop at the first."""
        for message in messages:
            if self.reading.on_decode_error == "error":
                raise ReldropError(message)
            if message not in self._named:
                self._named.add(message)
                logger.warning("skipped: %s", message)

    def _next_readable(self, batch: Sequence[int], row: int, seed: int) -> tuple[int, Tensor]:
        """Return the first row of a batch after `row` whose image can be decoded, and that image, in a crop of its own."""
        for step in range(1, len(batch)):
            source = (row + step) % len(batch)
            image, message = self[batch[source], seed + batch[row]]
            if not message:
                return source, image
            self._skip([message])
        raise ReldropError(f"no image of a batch of {len(batch)} can be decoded; replace or remove them")


def _explained(loader: DataLoader) -> Iterator[Any]:
    """Yield what a loader yields, and say in one sentence what has ended its processes."""
    try:
        yield from _started(loader)
    except (RuntimeError, OSError, EOFError) as error:
        if not loader.num_workers:
            raise
        reason = str(error).strip().splitlines()[-1]
        room = "give /dev/shm more room (docker run --shm-size=8g), or " if "shared memory" in reason else ""
        raise ReldropError(
            f"the processes that decode images have failed ({reason}); {room}set machine.workers to fewer than "
            f"{loader.num_workers}, 0 for none"
        ) from error


def _started(loader: DataLoader) -> Iterator[Any]:
    """Start the processes of a loader, which sees within seconds, where it waits for them, that one of them has died.

    torch's handler of SIGCHLD sees it at once, but raises its error wherever the program is, e.g. amid a training step.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
        signal.signal(signal.SIGCHLD, handler)
    return batches


@cache
def _end_workers_at_exit() -> None:
    """Kill the workers that are left at exit, e.g. after an error.

    multiprocessing would send them SIGTERM, which they ignore, and wait for them forever.
    """

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
        for process in multiprocessing.active_children():
            process.kill()

    atexit.register(kill)


def on_device(batches: Iterator[tuple[Tensor, Extra]], device: torch.device) -> Iterator[tuple[Tensor, Extra]]:
    """Yield the batches with their tensors on `device`.

    A CUDA device copies a batch on a stream of its own while it works on the one before; the tensors must then be in
    page-locked memory.
    """
    if device.type != "cuda":
        for batch, extra in batches:
            yield batch.to(device), extra
        return
    copying = torch.cuda.Stream(device)
    ready = None
    for batch, extra in batches:
        with torch.cuda.stream(copying):
            copied = batch.to(device, non_blocking=True)
        if ready is not None:
            yield ready
        working = torch.cuda.current_stream(device)
        working.wait_stream(copying)
        copied.record_stream(working)  # its memory is not used again before the work on it is done
        ready = copied, extra
    if ready is not None:
        yield ready

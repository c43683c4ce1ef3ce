"""From image files to uint8 tensors: all at once into memory, or a batch at a time by worker processes."""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from reldrop.errors import ReldropError
from reldrop.seeding import generator

PROGRESS_FROM = 2000  # files; fewer are decoded before a progress bar could be read


def decode(path: str, size: int) -> np.ndarray:
    """Return an image file as RGB, uint8 (3, size, size): short side resized to `size`, centre cropped.

    Raises:
        ReldropError: the file cannot be decoded; the message names it.
    """
    try:
        with Image.open(path) as image:
            square = ImageOps.fit(_rgb(image), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow raises many types for damaged files, SyntaxError and struct.error among them
        raise ReldropError(f"cannot decode image {path}: {error}; replace or remove it") from error
    return np.asarray(square).transpose(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255 instead of scaling down
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def decode_all(paths: Sequence[str], size: int, description: str) -> Tensor:
    """Decode `paths` in threads; return uint8 (N, 3, size, size).

    Args:
        paths: N image files.
        size: side of the square images, in pixels.
        description: what is being decoded, for the progress bar (shown for many files on a terminal).

    Raises:
        ReldropError: a file cannot be decoded.
    """
    images = np.empty((len(paths), 3, size, size), np.uint8)
    quiet = len(paths) <= PROGRESS_FROM or not sys.stderr.isatty()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        decoded = pool.map(decode, paths, [size] * len(paths))
        for index, image in enumerate(tqdm(decoded, f"decode {description}", len(paths), disable=quiet)):
            images[index] = image
    return torch.from_numpy(images)


class _BatchDecoder(Dataset):
    """What the worker processes run: from the indices of a batch to its images, or to the message why there are none."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, indices: list[int]) -> Tensor | str:
        try:
            return torch.from_numpy(np.stack([decode(self.paths[index], self.size) for index in indices]))
        except ReldropError as error:
            return str(error)  # a DataLoader would wrap a raised one in the worker's traceback


class StreamedImages:
    """Image files that are decoded whenever they are used, for data sets larger than memory.

    Args:
        paths: N image files.
        size: side of the square images, in pixels.
        workers: number of decoding processes; 0 decodes in the calling process.
    """

    def __init__(self, paths: Sequence[str], size: int, workers: int) -> None:
        self.workers = workers
        self._decoder = _BatchDecoder(paths, size)
        self._idle: list[DataLoader] = []

    def __len__(self) -> int:
        return len(self._decoder.paths)

    def batches(self, indices: Sequence[Tensor], pin_memory: bool) -> Iterator[Tensor]:
        """Yield one uint8 (b, 3, size, size) CPU tensor for each (b,) tensor of indices.

        Raises:
            ReldropError: a file cannot be decoded.
        """
        # A loader's workers persist from epoch to epoch, but serve one iteration at a time. One that is in use, as when
        # training images are evaluated amid an epoch, is left alone.
        loader = self._idle.pop() if self._idle else self._loader(pin_memory)
        loader.sampler[:] = [batch.tolist() for batch in indices]
        try:
            for images in loader:
                if isinstance(images, str):
                    raise ReldropError(images)
                yield images
        finally:
            self._idle.append(loader)

    def _loader(self, pin_memory: bool) -> DataLoader:
        return DataLoader(
            self._decoder,
            batch_size=None,  # no collation: an "index" of this sampler is a whole batch
            sampler=[],
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin_memory,
            generator=generator(0, "loader"),  # else it draws from the global one
        )

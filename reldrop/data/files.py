"""Image files: finding them, reading them, and choosing among them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from reldrop.data.images import ImageSplit, StreamedSplit
from reldrop.errors import ReldropError
from reldrop.seeding import generator

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}

Files = tuple[list[str], Tensor]  # paths, and labels (N,)


def list_classes(folder: Path) -> list[str]:
    """Return the names of the subfolders, sorted.

    Raises:
        ReldropError: if there are none.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ReldropError(f"{folder} has no class folders; it must hold one folder of images for each class")
    return names


def list_images(folder: Path, classes: Sequence[str]) -> Files:
    """Return the image files below folder/<class> for each class, sorted, and their labels.

    Raises:
        ReldropError: for a class that is not in `classes`, is missing or is empty.
    """
    unknown = sorted(set(list_classes(folder)) - set(classes))
    if unknown:
        raise ReldropError(f"{folder / unknown[0]} is a class that the training set does not have")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            str(path)
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not found:
            raise ReldropError(
                f"class folder {folder / name} is missing or holds no images ({', '.join(sorted(SUFFIXES))})"
            )
        paths += found
        labels += [label] * len(found)
    return paths, torch.tensor(labels)


def decode(path: str, size: int) -> Tensor:
    """Return an image file as RGB, its short side resized to `size` and the middle cut out: (3, size, size), uint8.

    Raises:
        ReldropError: naming the file, if it is damaged.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ReldropError(f"cannot decode image {path} ({error}); replace or remove it") from error
    width, height = picture.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def read(files: Files, size: int, memory_limit_gb: float, workers: int) -> ImageSplit:
    """Decode all files, or have them decoded when they are wanted if they take more than `memory_limit_gb` GiB."""
    paths, labels = files
    if len(paths) * 3 * size * size > memory_limit_gb * 2**30:
        return StreamedSplit(paths, labels, partial(decode, size=size), workers)
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def put(index: int) -> None:
        images[index] = decode(paths[index], size)

    with ThreadPoolExecutor() as pool:
        done = pool.map(put, range(len(paths)))
        show = None if len(paths) > 2000 else True
        for _ in tqdm(done, total=len(paths), desc="decoding", unit="image", leave=False, disable=show):
            pass
    return ImageSplit(images, labels)


def choose(labels: Tensor, count: int | None, key: str) -> Tensor:
    """Return sorted indices of `count` samples, as evenly spread over the classes as they allow; the same for all runs.

    Raises:
        ReldropError: if `count` is below 1 or above the number of samples; `key` names the setting.
    """
    if count is None:
        return torch.arange(len(labels))
    if not 1 <= count <= len(labels):
        raise ReldropError(f"dataset.{key} is {count}; it must be null or 1 to {len(labels)}, the size of the data set")
    order = torch.randperm(len(labels), generator=generator(0, key))
    # The place of each sample within its class: taking the lowest places first takes the classes in turn.
    by_class = order[labels[order].sort(stable=True).indices]
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(labels)) - starts[labels[by_class]]
    return by_class[place.sort(stable=True).indices[:count]].sort().values


def hold_out(labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Return sorted indices of what stays for training and of the `fraction` of each class held out for validation."""
    if not 0 <= fraction < 1:
        raise ReldropError(f"dataset.validation is {fraction}; it must be a fraction in [0, 1)")
    if fraction == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.long)
    held = choose(labels, max(1, round(fraction * len(labels))), "validation")
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[held] = False
    return stays.nonzero()[:, 0], held

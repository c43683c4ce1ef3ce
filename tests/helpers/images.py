"""Streaming."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from reldrop import data
from reldrop.data import ImageData, ImageSplit
from reldrop.data.base import Batch
from reldrop.utils.machine import Machine

DIGITS = {"name": "digits", "mean": [0.3053], "std": [0.3759]}


RGB = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def picture(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(*reversed(size), 3), dtype=np.uint8))


def make_folders(base: Path, classes: int = 3, train: int = 5, test: int = 2, size: int = 8) -> Path:
    """Make PNG images, no two the same, in train/CLASS and test/CLASS."""
    seeds = itertools.count()
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            folder = base / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                picture(next(seeds), (size, size)).save(folder / f"{index}.png")
    return base


def machine(root: Path, workers: int = 0, memory_gb: float = 8, download: bool = False) -> Machine:
    return Machine(data_dir=root, workers=workers, memory_gb=memory_gb, download=download)


def folder_data(base: Path, *, workers: int = 0, memory_gb: float = 8, **settings: Any) -> ImageData:
    here = machine(base.parent, workers, memory_gb)
    return data.image_folder(folder=base.name, machine=here, **{"size": 8, **RGB, **settings})


def memory_data(count: int = 11, **settings: Any) -> ImageData:
    """`count` training images of one value each, which tells them apart."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous()
    split = ImageSplit(images, torch.arange(count) % 2)
    test = ImageSplit(images[:4], split.labels[:4])
    return ImageData("values", ("even", "odd"), 4, (0.0,), (1 / 255,), "memory", split, test, **settings)


def assert_same_batches(expected: list[Batch], actual: list[Batch]) -> None:
    assert len(expected) == len(actual)
    for one, other in zip(expected, actual, strict=True):
        assert all(map(torch.equal, one[:3], other[:3]))

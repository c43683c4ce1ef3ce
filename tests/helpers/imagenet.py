"""Imagenet."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reldrop import data
from reldrop.data import ImageData
from reldrop.data.images.crops import RandomResizedCrop
from tests.helpers.images import machine

WNIDS = ("n01440764", "n01443537", "n02119789")


SMALL = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "size": 16, "eval_resize": 20, "flip": True}  # inputs are pixels


CROP = RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), "bilinear")


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth structure and noise, so that a crop in the wrong place shows."""
    draws = np.random.default_rng(seed)
    coarse = Image.fromarray(draws.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = draws.integers(-10, 11, size=(size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8))


def shade(label: int) -> int:
    return 40 + 80 * label


def plain(label: int) -> Image.Image:
    """An image of one grey, which tells its label however it is cropped."""
    return Image.new("RGB", (30 + label, 24), (shade(label),) * 3)


def make_train(base: Path, count: int = 4, split: str = "train") -> Path:
    for label, wnid in enumerate(WNIDS):
        folder = base / split / wnid
        folder.mkdir(parents=True)
        for index in range(count):
            plain(label).save(folder / f"{wnid}_{index}.JPEG")
    return base


def imagenet(base: Path, *, workers: int = 0, memory_gb: float = 8, **settings: Any) -> ImageData:
    here = machine(base.parent, workers, memory_gb)
    return data.imagenet(folders=[base.name], machine=here, **{**SMALL, **settings})


def greys(batches: Any) -> list[list[int]]:
    return [[round(value) for value in batch.inputs.mean((1, 2, 3)).tolist()] for batch in batches]

"""From an image file to a square: its center, resized, or a random crop."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Positive, PositiveFraction, Two, checked

CropFn = Callable[[Image.Image, int], Image.Image]  # from an image that is open, not yet decoded, to an RGB square
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize_center_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the largest square in the center, resized to `size`."""
    return ImageOps.fit(_rgb(image), (size, size), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class CenterCrop:
    """Resize the short side to `resize` pixels, then take a square from the center.

    `resize` is at least the side of the square; interpolation is bilinear or bicubic, both antialiased.
    """

    resize: int
    interpolation: str

    def __call__(self, image: Image.Image, size: int) -> Image.Image:
        short = min(image.size)
        width, height = (self.resize * side // short for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = _rgb(image).resize((width, height), FILTERS[self.interpolation])
        return resized.crop((left, top, left + size, top + size))


@checked
@dataclass(frozen=True)
class RandomResizedCrop:
    """Take a box of random area, shape and place, and resize it to a square.

    The boxes are those of torchvision's RandomResizedCrop. Large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size
    where the box still has enough pixels.

    Attributes:
        scale: least and largest share of the image's area.
        ratio: least and largest ratio of width to height.
        interpolation: bilinear or bicubic, both antialiased.

    Raises:
        ReldropError: `scale` or `ratio` is out of range.
    """

    scale: Annotated[Sequence[PositiveFraction], Two]
    ratio: Annotated[Sequence[Positive], Two]
    interpolation: Literal["bilinear", "bicubic"]

    def __post_init__(self) -> None:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ReldropError(f"crop_{key}={[low, high]} must have the smaller number first")
            object.__setattr__(self, key, (low, high))
        import torchvision.transforms  # noqa: F401  takes a second: here once, not in every worker

    def box(self, image: Image.Image, seed: int) -> Box:
        """Return the box that `seed` draws in an image, which need not be decoded."""
        from torchvision.transforms import RandomResizedCrop as Reference

        with torch.random.fork_rng(devices=[]):  # get_params draws from the global generator
            torch.default_generator.manual_seed(seed)
            top, left, height, width = Reference.get_params(image, list(self.scale), list(self.ratio))
        return left, top, left + width, top + height

    def __call__(self, image: Image.Image, size: int, seed: int) -> Image.Image:
        width, height = image.size
        left, top, right, bottom = self.box(image, seed)
        # draft() makes a JPEG file decode at the smallest of its sizes that is at least the one asked for.
        asked = math.ceil(width * size / (right - left)), math.ceil(height * size / (bottom - top))
        drafted = image.draft(None, asked)
        reduced = width / drafted[1][2] if drafted else 1
        left, top, right, bottom = (side / reduced for side in (left, top, right, bottom))
        first, above = math.floor(left), math.floor(top)
        part = _rgb(image.crop((first, above, math.ceil(right), math.ceil(bottom))))
        inner = (left - first, top - above, right - first, bottom - above)
        return part.resize((size, size), FILTERS[self.interpolation], box=inner)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255 instead of scaling down
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")

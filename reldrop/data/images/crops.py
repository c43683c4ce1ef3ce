"""Which part of an image file is seen, and how it becomes a square: fitted, cropped from the center, or at random."""

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
TRIES = 10  # boxes drawn for an image before its center is taken


def resize_center_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the largest square in the center, resized to `size`."""
    return ImageOps.fit(_rgb(image), (size, size), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class CenterCrop:
    """Resize the short side to `resize` pixels, then take a square from the center.

    Attributes:
        resize: at least the side of the square.
        interpolation: bilinear or bicubic, both antialiased.
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

    The numbers that a box depends on are drawn before the image is opened: `draw` gives them for a batch, `box` turns
    those of one image into pixels, and a call returns the square. Large JPEG files are decoded at 1/2, 1/4 or 1/8 of
    their size where the box has pixels enough all the same.

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

    def draw(self, count: int, generator: torch.Generator) -> np.ndarray:
        """Return what the boxes of `count` images depend on, float64 (count, 22), uniform in [0, 1)."""
        return torch.rand(count, 2 * TRIES + 2, dtype=torch.float64, generator=generator).numpy()

    def box(self, draws: Sequence[float], width: int, height: int) -> Box:
        """Return the box in an image of `width` x `height` pixels.

        Of the first of ten boxes that fits in: its area is uniform, its ratio log-uniform, and so is its place
        among those possible. If none fits, the largest box in the center whose ratio is in range.

        Args:
            draws: a row of `draw`.
        """
        draws = np.asarray(draws).tolist()
        low, high = map(math.log, self.ratio)
        for share, shape in zip(draws[:TRIES], draws[TRIES : 2 * TRIES], strict=True):
            area = width * height * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + shape * (high - low))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                left, top = int(draws[-2] * (width - across + 1)), int(draws[-1] * (height - down + 1))
                return left, top, left + across, top + down
        across = min(width, max(1, round(height * self.ratio[1])))
        down = min(height, max(1, round(width / self.ratio[0])))
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down

    def __call__(self, image: Image.Image, size: int, draws: Sequence[float]) -> Image.Image:
        width, height = image.size
        left, top, right, bottom = self.box(draws, width, height)
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

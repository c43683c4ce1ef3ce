"""Occlusion of training images: at random, or where the network looks (paper, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.base import Draws
from reldrop.augmentation.fill import FillImage, Normalization
from reldrop.augmentation.occlusion import Occlusion, StochasticThreshold
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, Fraction, PositiveFraction, Two


@dataclass(kw_only=True)
class ImageOcclusion(Occlusion):
    """Occlusion of images (B, C, H, W).

    Args:
        decide_per: "image": each image is occluded or not by a draw of its own; "batch": one draw for all (the release).
        fill, normalization: see `Fill`.
        cell: side in pixels of the squares that are occluded as a whole, e.g. the patch of a vision transformer. Masks are
            made for the coarse image of cells, each with the mean relevance of its pixels.
    """

    kind = "images"

    decide_per: Literal["image", "batch"] = "image"
    fill: FillImage = "mean"
    normalization: Normalization | None = None
    cell: Count = 1


@dataclass(kw_only=True)
class _Rectangles(ImageOcclusion):
    """What random erasing, block and patch share; the names are those of torchvision.transforms.RandomErasing.

    Args:
        scale: smallest and largest area of the occlusion as a share of the image, in (0, 1]: s_l and s_h in the paper.
        ratio: smallest aspect ratio (height / width), in (0, 1]: r1 in the paper. The largest is 1 / ratio.
    """

    scale: Annotated[Sequence[PositiveFraction], Two] = (0.02, 0.4)
    ratio: PositiveFraction = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise ReldropError(f"scale={list(self.scale)} must be two shares, 0 < smallest <= largest <= 1")

    def _sizes(self, shape: tuple[int, int], size: tuple[int, ...], rng: torch.Generator | None, k: int = 1) -> Draws:
        """Draw heights and widths, each of that shape, of rectangles with the k-th part of the area."""
        return masks.draw_sizes(shape, size, (self.scale[0] / k, self.scale[1] / k), self.ratio, rng)


class RandomErasing(_Rectangles):
    """One rectangle anywhere inside the image (Zhong et al. 2020, https://arxiv.org/abs/1708.04896): the control of block."""

    needs_relevance = False

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        sizes = self._sizes((count, 1), size, rng)
        top, left = (
            (torch.rand(count, 1, generator=rng) * (whole - side + 1)).long()
            for whole, side in zip(size, sizes, strict=True)
        )
        return top, left, *sizes

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        return masks.rectangles(*draws, tuple(maps.shape[1:]))


@dataclass(kw_only=True)
class _Guided(_Rectangles):
    """What block and patch share: where rectangles go. See `reldrop.augmentation.masks.place`.

    Args:
        place_by: "pixel": the most relevant pixels are the centers (the paper); "block": where the rectangle that was drawn
            hides most positive relevance, places at least half a rectangle apart (an extension of this project).
        border: "clip": a rectangle is cut at the border, so that it hides less than was drawn (the paper); "inside": it is
            moved until all of it is in the image, as that of `RandomErasing` is.
    """

    place_by: Literal["pixel", "block"] = "pixel"
    border: Literal["clip", "inside"] = "clip"
    k: Count = 1

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        return masks.place(maps, self.k, *draws, self.place_by, self.border)


@dataclass(kw_only=True)
class RelDropBlock(_Guided):
    """One rectangle around a pixel drawn from the k most relevant ones, clipped at the border; or see `place_by`, `border`.

    Args:
        k: number of candidate centers, at least 1.
    """

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        sizes = self._sizes((count, 1), size, rng)
        return torch.randint(self.k, (count, 1), generator=rng), *sizes


@dataclass(kw_only=True)
class RelDropPatch(_Guided):
    """A rectangle around each of the k most relevant pixels, each with the k-th part of the area.

    Args:
        k: number of centers, at least 1, and what each rectangle's area is divided by.
        rectangles: how many of them are placed, drawn uniformly; None for all. (The release places one.)
    """

    k: Count = 5
    rectangles: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rectangles is not None and self.rectangles > self.k:
            raise ReldropError(f"rectangles={self.rectangles} must be null or 1 to k = {self.k}")

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        shape = (count, self.rectangles or self.k)
        chosen = torch.arange(self.k).expand(count, -1)
        if self.rectangles is not None:
            chosen = torch.rand(count, self.k, generator=rng).argsort(1)[:, : self.rectangles]
        return chosen, *self._sizes(shape, size, rng, self.k)


@dataclass(kw_only=True)
class RelDropPixel(StochasticThreshold, ImageOcclusion):
    """Single pixels, the more likely the more relevant; see `StochasticThreshold`."""

    probability: Fraction = 0.3
    alpha: Fraction = 0.3

"""Occlusion of images in training: at random, or where the network looks (paper, section 3)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.fill import FillImage, Normalization
from reldrop.augmentation.occlusion import Occlusion, StochasticThreshold
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, Fraction, PositiveFraction, Two, checked

Area = Annotated[Sequence[PositiveFraction], Two]


class _Rectangles(Occlusion):
    """What random erasing, block and patch share.

    Args:
        area: smallest and largest area of the occlusion as a share of the image, in (0, 1].
        aspect: smallest aspect ratio, in (0, 1]; the largest is its inverse.
    """

    kind = "images"

    def __init__(
        self,
        probability: Fraction = 0.5,
        area: Area = (0.02, 0.4),
        aspect: PositiveFraction = 0.3,
        decide_per: Literal["image", "batch"] = "image",
        fill: FillImage = "mean",
        normalization: Normalization | None = None,
        cell: Count = 1,
    ) -> None:
        super().__init__(probability, decide_per, fill, normalization, cell)
        if area[0] > area[1]:
            raise ReldropError(f"area={list(area)} must be two shares, 0 < smallest <= largest <= 1")
        self.area, self.aspect = (float(area[0]), float(area[1])), aspect

    def _centered(self, relevance: Tensor, k: int, *draws: Tensor) -> Tensor:
        """Masks of rectangles around pixels among the k most relevant: draws say which, heights and widths, all (n, r)."""
        if k > relevance[0].numel():
            raise ReldropError(f"k={k}, but the image has only {relevance[0].numel()} pixels")
        rows, columns = masks.most_relevant(relevance, k)
        chosen, heights, widths = (draw.to(relevance.device, non_blocking=True) for draw in draws)
        top = rows.gather(1, chosen) - heights // 2
        left = columns.gather(1, chosen) - widths // 2
        return masks.rectangles(top, left, heights, widths, tuple(relevance.shape[1:]))


@checked
class RandomErasing(_Rectangles):
    """One rectangle at a uniformly drawn place inside the image (Zhong et al. 2020): the control of RelDrop-block."""

    needs_relevance = False

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        heights, widths = masks.draw_sizes((count, 1), size, self.area, self.aspect, generator)
        top, left = (
            (torch.rand(count, 1, generator=generator) * (whole - shard + 1)).long()
            for whole, shard in zip(size, (heights, widths), strict=True)
        )
        return top, left, heights, widths

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        moved = (draw.to(maps.device, non_blocking=True) for draw in draws)
        return masks.rectangles(*moved, tuple(maps.shape[1:]))


@checked
class RelDropBlock(_Rectangles):
    """One rectangle around a pixel drawn from the k most relevant ones, clipped at the border.

    Args:
        k: number of candidate centers, >= 1.
    """

    def __init__(
        self,
        probability: Fraction = 0.5,
        k: Count = 1,
        area: Area = (0.02, 0.4),
        aspect: PositiveFraction = 0.3,
        decide_per: Literal["image", "batch"] = "image",
        fill: FillImage = "mean",
        normalization: Normalization | None = None,
        cell: Count = 1,
    ) -> None:
        super().__init__(probability, area, aspect, decide_per, fill, normalization, cell)
        self.k = k

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        sizes = masks.draw_sizes((count, 1), size, self.area, self.aspect, generator)
        return torch.randint(self.k, (count, 1), generator=generator), *sizes

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        return self._centered(maps, self.k, *draws)


@checked
class RelDropPatch(_Rectangles):
    """A rectangle around each of the k most relevant pixels, each with the k-th part of the area.

    Args:
        k: number of centers, >= 1, and what each rectangle's area is divided by.
        rectangles: how many of them are placed, the most relevant first; None for all. (The release stops after one.)
    """

    def __init__(
        self,
        probability: Fraction = 0.5,
        k: Count = 5,
        rectangles: Count | None = None,
        area: Area = (0.02, 0.4),
        aspect: PositiveFraction = 0.3,
        decide_per: Literal["image", "batch"] = "image",
        fill: FillImage = "mean",
        normalization: Normalization | None = None,
        cell: Count = 1,
    ) -> None:
        super().__init__(probability, area, aspect, decide_per, fill, normalization, cell)
        if rectangles is not None and rectangles > k:
            raise ReldropError(f"rectangles={rectangles} must be null or 1 to k = {k}")
        self.k, self.rectangles = k, rectangles or k

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        area = (self.area[0] / self.k, self.area[1] / self.k)
        sizes = masks.draw_sizes((count, self.rectangles), size, area, self.aspect, generator)
        return torch.arange(self.rectangles).expand(count, -1), *sizes

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        return self._centered(maps, self.k, *draws)


@checked
class RelDropPixel(StochasticThreshold):
    """Single pixels, the more likely the more relevant."""

    kind = "images"

    def __init__(
        self,
        probability: Fraction = 0.3,
        alpha: Fraction = 0.3,
        beta: Fraction = 0.5,
        decide_per: Literal["image", "batch"] = "image",
        fill: FillImage = "mean",
        normalization: Normalization | None = None,
        cell: Count = 1,
    ) -> None:
        super().__init__(probability, alpha, beta, decide_per, fill, normalization, cell)

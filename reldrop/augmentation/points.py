"""Dropout of training points: at random, or where the network looks (paper, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from reldrop.augmentation.base import Draws
from reldrop.augmentation.fill import FillPoint
from reldrop.augmentation.occlusion import Occlusion, StochasticThreshold
from reldrop.utils.types import Fraction


@dataclass(kw_only=True)
class RandomPointDropout(Occlusion):
    """Random input dropout of PointNet++ (Qi et al. 2017, https://arxiv.org/abs/1706.02413): the control of RelDrop-point.

    Each cloud draws a ratio from U(0, max_ratio), and each of its points is dropped with that probability. A dropped
    point becomes a copy of the first one, so that the shape only gets sparser.

    Args:
        probability: of a cloud to lose points at all, in [0, 1].
        max_ratio: largest ratio, in [0, 1].
        fill: what a dropped point becomes, see `Fill`.
    """

    kind = "points"
    needs_relevance = False

    probability: Fraction = 1.0
    max_ratio: Fraction = 0.875
    fill: FillPoint = "first"

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        ratio = self.max_ratio * torch.rand(count, 1, generator=rng)
        return (torch.rand(count, *size, generator=rng) <= ratio,)

    def make_mask(self, maps: Tensor, dropped: Tensor) -> Tensor:
        return dropped


@dataclass(kw_only=True)
class RelDropPoint(StochasticThreshold):
    """Drops single points, the more likely the more relevant; all channels of a dropped point become `fill`.

    Args:
        probability: of a cloud to lose points at all, in [0, 1].
        fill: see `Fill`; the release puts 0, the center of the cloud, with no normal.
    """

    kind = "points"

    probability: Fraction = 1.0
    fill: FillPoint = 0.0

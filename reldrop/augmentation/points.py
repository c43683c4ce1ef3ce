"""Dropout of points in training: at random, or where the network looks (paper, section 3)."""

import torch
from torch import Tensor

from reldrop.augmentation.fill import FillPoint
from reldrop.augmentation.occlusion import Occlusion, StochasticThreshold
from reldrop.utils.types import Fraction, checked


@checked
class RandomPointDropout(Occlusion):
    """Random input dropout of PointNet++ (Qi et al. 2017): the control of RelDrop-point.

    Each cloud draws a ratio from U(0, max_ratio), and each of its points is dropped with that probability. A dropped
    point becomes a copy of the first one, so that the shape merely gets sparser.

    Args:
        max_ratio: largest ratio, in [0, 1].
        fill: what a dropped point becomes, see `Fill`.
        probability: of a cloud to lose points at all.
    """

    kind = "points"
    needs_relevance = False

    def __init__(self, max_ratio: Fraction = 0.875, fill: FillPoint = "first", probability: Fraction = 1.0) -> None:
        super().__init__(probability, "image", fill)
        self.max_ratio = max_ratio

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        ratio = self.max_ratio * torch.rand(count, 1, generator=generator)
        return (torch.rand(count, *size, generator=generator) <= ratio,)

    def make_mask(self, maps: Tensor, dropped: Tensor) -> Tensor:
        return dropped.to(maps.device, non_blocking=True)


@checked
class RelDropPoint(StochasticThreshold):
    """Drop single points, the more likely the more relevant; all channels of a dropped point become `fill`.

    Args:
        fill: see `Fill`; the release puts 0, the center of the cloud, with no normal.
        probability: of a cloud to lose points at all.
    """

    kind = "points"

    def __init__(
        self, alpha: Fraction = 0.5, beta: Fraction = 0.5, fill: FillPoint = 0.0, probability: Fraction = 1.0
    ) -> None:
        super().__init__(probability, alpha, beta, "image", fill)

"""Dropout of training points: at random, or where the network looks (paper, section 3); singly, or all of a ball."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from reldrop.augmentation.base import Draws
from reldrop.augmentation.fill import FillPoint
from reldrop.augmentation.masks import nonnegative
from reldrop.augmentation.occlusion import Occlusion, StochasticThreshold
from reldrop.metrics.occlusion import nearness_ranks
from reldrop.utils.errors import ReldropError
from reldrop.utils.point_ops import farthest_points
from reldrop.utils.types import Count, Fraction, PositiveFraction, Two


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


@dataclass(kw_only=True)
class _Balls(Occlusion):
    """One ball of neighboring points, the counterpart of a rectangle of an image. An extension of this project.

    Args:
        probability: of a cloud to lose points at all, in [0, 1].
        scale: smallest and largest share of the points that a ball holds, in (0, 1].
        fill: what a dropped point becomes, see `Fill`.
    """

    kind = "points"

    scale: Annotated[Sequence[PositiveFraction], Two] = (0.02, 0.4)
    fill: FillPoint = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise ReldropError(f"scale={list(self.scale)} must be two shares, 0 < smallest <= largest <= 1")

    def geometry(self, inputs: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return (inputs[index, :, :3],)

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        share = torch.empty(count, 1).uniform_(*self.scale, generator=rng)
        return ((share * size[0]).round().long().clamp(min=1),)


class RandomBall(_Balls):
    """The points nearest to any one of them: the control of RelDrop-ball."""

    needs_relevance = False

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        points = super().sample(count, size, rng, device)
        return *points, (torch.rand(count, 1, generator=rng) * size[0]).long()

    def make_mask(self, maps: Tensor, xyz: Tensor, points: Tensor, center: Tensor) -> Tensor:
        return ball(xyz, center, points)


@dataclass(kw_only=True)
class RelDropBall(_Balls):
    """The ball that holds most positive relevance, of those around points that are spread over the cloud.

    Args:
        centers: how many points are tried as its center, the first of a farthest point sampling; all of a smaller cloud.
    """

    centers: Count = 64

    def make_mask(self, maps: Tensor, xyz: Tensor, points: Tensor) -> Tensor:
        tried = farthest_points(xyz, self.centers)
        best = ball_sums(xyz, maps, tried, points).argmax(1, keepdim=True)
        return ball(xyz, tried.gather(1, best), points)


def ball(xyz: Tensor, center: Tensor, points: Tensor) -> Tensor:
    """Return the masks (n, N) of the points nearest to one of them; of equally far ones, the first.

    Args:
        xyz: (n, N, 3), coordinates.
        center: index of the point in the center, (n, 1).
        points: how many the ball holds, (n, 1).
    """
    middle = torch.take_along_dim(xyz, center[..., None], 1)[:, 0]
    return nearness_ranks(xyz, middle) < points


def ball_sums(xyz: Tensor, relevance: Tensor, centers: Tensor, points: Tensor) -> Tensor:
    """Return the positive relevance in balls around points, float64 (n, M).

    A cloud without any positive value counts by the distance of its values from the smallest.

    Args:
        xyz: (n, N, 3), coordinates.
        relevance: (n, N).
        centers: indices of the points in the centers, (n, M).
        points: how many each ball holds, (n, 1).
    """
    middles = torch.take_along_dim(xyz, centers[..., None], 1)
    order = (middles[:, :, None] - xyz[:, None]).square().sum(-1).argsort(dim=2, stable=True)
    values = torch.take_along_dim(nonnegative(relevance)[:, None], order, 2).cumsum(2)
    return torch.take_along_dim(values, (points - 1)[..., None], 2)[..., 0]

"""PointNet++ for classification (Qi et al. 2017, https://arxiv.org/abs/1706.02413): SSG and MSG."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reldrop.backbones.point_layers import GroupedLinear, NormMax, PointNorm, SharedLayers, classifier
from reldrop.utils.point_ops import ball_query, farthest_points, gather_points


class Scale(nn.Module):
    """Describes the points within one radius of a centroid: a shared network on each, and the maximum over them.

    Args:
        channels: of a point, its coordinates (3) first.
        radius: of the neighborhood, in the units of the coordinates.
        neighbors: number of points taken from it.
        widths: of the three layers.
    """

    def __init__(self, channels: int, radius: float, neighbors: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.radius, self.neighbors = radius, neighbors
        self.first = GroupedLinear(channels, widths[0])
        self.first_norm = PointNorm(widths[0])
        self.first_act = nn.ReLU()
        self.middle = SharedLayers(*widths[:-1])
        self.last = nn.Linear(widths[-2], widths[-1])
        self.pool = NormMax(widths[-1])

    def forward(self, points: Tensor, centroids: Tensor, index: Tensor) -> Tensor:
        """Return (B, S, widths[-1]).

        Args:
            points: (B, N, channels).
            centroids: (B, S, 3).
            index: (B, S, neighbors), the points around each centroid.
        """
        x = self.first_act(self.first_norm(self.first(points, centroids, index)))
        return self.pool(self.last(self.middle(x)))


class SetAbstraction(nn.Module):
    """Choose centroids by farthest point sampling, and describe the neighborhood of each at one or more scales.

    Args:
        centroids: how many.
        scales: (radius, neighbors, widths) of each.
        sampled: whether the points come in the order of a farthest point sampling, as those of another set abstraction
            do. The first ones are their sampling then.
    """

    def __init__(
        self,
        channels: int,
        centroids: int,
        scales: Sequence[tuple[float, int, Sequence[int]]],
        sampled: bool = False,
    ) -> None:
        super().__init__()
        self.centroids, self.sampled = centroids, sampled
        self.scales = nn.ModuleList(Scale(channels, *scale) for scale in scales)
        self.channels = 3 + sum(widths[-1] for _, _, widths in scales)  # of its output

    def forward(self, points: Tensor) -> Tensor:
        """Take points (B, N, C), coordinates first, to centroids (B, S, 3 + features), coordinates first again."""
        xyz = points[..., :3]
        if self.sampled:
            centroids = xyz[:, : self.centroids]
        else:
            centroids = gather_points(xyz, farthest_points(xyz, self.centroids))
        sizes = [scale.radius for scale in self.scales], [scale.neighbors for scale in self.scales]
        balls = zip(self.scales, ball_query(xyz, centroids, *sizes), strict=True)
        return torch.cat([centroids, *(scale(points, centroids, index) for scale, index in balls)], -1)


class PointNet2(nn.Module):
    """Two set abstractions, a network on all centroids with a maximum over them, and a classifier.

    Args:
        channels: of a point: 3 coordinates, perhaps followed by a normal or other features.
        levels: (centroids, scales) of the two set abstractions, see `SetAbstraction`.
        dropout: rates of the classifier.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        levels: Sequence[tuple[int, Sequence[tuple[float, int, Sequence[int]]]]],
        dropout: tuple[float, float],
    ) -> None:
        super().__init__()
        self.sa1 = SetAbstraction(channels, *levels[0])
        self.sa2 = SetAbstraction(self.sa1.channels, *levels[1], sampled=True)
        self.sa3 = SharedLayers(self.sa2.channels, 256, 512)
        self.last = nn.Linear(512, 1024)
        self.pool = NormMax(1024)
        self.head = classifier(1024, num_classes, dropout)
        self.num_classes = num_classes

    def forward(self, points: Tensor) -> Tensor:
        """Return logits (B, num_classes) of points (B, N, channels), for any N."""
        return self.head(self.pool(self.last(self.sa3(self.sa2(self.sa1(points))))))

    def get_classifier(self) -> nn.Linear:
        return self.head[-1]


SSG = (
    (512, ((0.2, 32, (64, 64, 128)),)),
    (128, ((0.4, 64, (128, 128, 256)),)),
)
MSG = (
    (512, ((0.1, 16, (32, 32, 64)), (0.2, 32, (64, 64, 128)), (0.4, 128, (64, 96, 128)))),
    (128, ((0.2, 32, (64, 64, 128)), (0.4, 64, (128, 128, 256)), (0.8, 128, (128, 128, 256)))),
)

"""PointNet++ (Qi et al. 2017) as it is usually written in PyTorch: what scripts/benchmark.py compares ours with.

Channels first, a full matrix of distances for each ball query and a sort of its rows, farthest points by boolean masks,
grouping before the first layer, 1x1 convolutions, and a random first point. It takes the sizes from our network and, with
the same weights and the same first point, gives the same logits. Nothing but the benchmark and its test uses it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from reldrop.backbones.pointnet2 import MSG, SSG

Scales = Sequence[tuple[float, int, Sequence[int]]]  # radius, neighbors, widths


def square_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return (B, S, N), the squared distances of a (B, S, 3) and b (B, N, 3), as |a|^2 - 2 a.b + |b|^2."""
    distance = -2 * torch.matmul(a, b.permute(0, 2, 1))
    distance += (a**2).sum(-1)[:, :, None]
    distance += (b**2).sum(-1)[:, None, :]
    return distance


def index_points(values: Tensor, index: Tensor) -> Tensor:
    """Return the rows of values (B, N, C) that index (B, ...) names."""
    clouds = torch.arange(len(values), device=values.device).view(-1, *[1] * (index.ndim - 1)).expand_as(index)
    return values[clouds, index]


def farthest_point_sample(xyz: Tensor, count: int, start: int | None) -> Tensor:
    """Return indices (B, count) into xyz (B, N, 3), the first one `start`, or drawn for each cloud if that is None."""
    batch, size, _ = xyz.shape
    clouds = torch.arange(batch, device=xyz.device)
    chosen = torch.zeros(batch, count, dtype=torch.long, device=xyz.device)
    distance = xyz.new_full((batch, size), 1e10)
    if start is None:
        farthest = torch.randint(size, (batch,), device=xyz.device)
    else:
        farthest = torch.full_like(clouds, start)
    for step in range(count):
        chosen[:, step] = farthest
        centroid = xyz[clouds, farthest][:, None]
        to_centroid = ((xyz - centroid) ** 2).sum(-1)
        nearer = to_centroid < distance
        distance[nearer] = to_centroid[nearer]
        farthest = distance.max(-1)[1]
    return chosen


def query_ball_point(radius: float, count: int, xyz: Tensor, centroids: Tensor) -> Tensor:
    """Return (B, S, count), the first points of xyz (B, N, 3) around centroids (B, S, 3), the first of all repeated."""
    batch, size, _ = xyz.shape
    index = torch.arange(size, device=xyz.device).view(1, 1, size).repeat(batch, centroids.shape[1], 1)
    index[square_distance(centroids, xyz) > radius**2] = size
    index = index.sort(-1)[0][:, :, :count]
    first = index[:, :, :1].expand_as(index)
    outside = index == size
    index[outside] = first[outside]
    return index


def convolutions(*widths: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise(widths)
        )
    )


class SetAbstraction(nn.Module):
    def __init__(self, features: int, centroids: int, scales: Scales) -> None:
        super().__init__()
        self.centroids = centroids
        self.balls = [(radius, count) for radius, count, _ in scales]
        self.layers = nn.ModuleList(convolutions(3 + features, *widths) for _, _, widths in scales)
        self.features = sum(widths[-1] for _, _, widths in scales)  # of its output

    def forward(self, xyz: Tensor, features: Tensor, start: int | None) -> tuple[Tensor, Tensor]:
        """Take coordinates (B, 3, N) and features (B, D, N) to those of the centroids, (B, 3, S) and (B, D', S)."""
        xyz, features = xyz.permute(0, 2, 1), features.permute(0, 2, 1)
        chosen = farthest_point_sample(xyz, min(self.centroids, xyz.shape[1]), start)
        centroids = index_points(xyz, chosen)
        found = []
        for (radius, count), layers in zip(self.balls, self.layers, strict=True):
            index = query_ball_point(radius, min(count, xyz.shape[1]), xyz, centroids)
            offset = index_points(xyz, index) - centroids[:, :, None]
            grouped = torch.cat([offset, index_points(features, index)], -1)
            found.append(layers(grouped.permute(0, 3, 2, 1)).max(2)[0])  # on (B, C, K, S)
        return centroids.permute(0, 2, 1), torch.cat(found, 1)


class YardstickPointNet2(nn.Module):
    """PointNet++ for classification of points with normals, (B, 6, N), to logits (B, num_classes).

    Args:
        levels: as of `reldrop.backbones.pointnet2.PointNet2`, and so is `dropout`.
    """

    def __init__(
        self, num_classes: int, levels: Sequence[tuple[int, Scales]], dropout: tuple[float, float] = (0.4, 0.4)
    ) -> None:
        super().__init__()
        self.sa1 = SetAbstraction(3, *levels[0])
        self.sa2 = SetAbstraction(self.sa1.features, *levels[1])
        self.sa3 = convolutions(3 + self.sa2.features, 256, 512, 1024)
        self.head = nn.Sequential(
            *(nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(dropout[0])),
            *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(dropout[1])),
            nn.Linear(256, num_classes),
        )

    def forward(self, points: Tensor, start: int | None = None) -> Tensor:
        """Return logits; `start` is the first point of all samplings, drawn at random if None."""
        xyz, features = self.sa1(points[:, :3], points[:, 3:], start)
        xyz, features = self.sa2(xyz, features, start)
        every = torch.cat([xyz, features], 1)[..., None]
        return self.head(self.sa3(every).max(2)[0].flatten(1))


def yardstick(name: str, num_classes: int) -> YardstickPointNet2:
    """Return the counterpart of our network `name`, pointnet2_ssg or pointnet2_msg."""
    levels, dropout = {"pointnet2_ssg": (SSG, (0.4, 0.4)), "pointnet2_msg": (MSG, (0.4, 0.5))}[name]
    return YardstickPointNet2(num_classes, levels, dropout)


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the parameters and statistics of our network to the yardstick, whose layers come in the same order."""
    for ours, its in zip(_layers(source), _layers(target), strict=True):
        its.load_state_dict({key: value.view_as(its.state_dict()[key]) for key, value in ours.state_dict().items()})


def _layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if getattr(module, "weight", None) is not None]

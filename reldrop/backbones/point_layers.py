"""Layers of networks on point clouds, channels last: (B, N, C), or (B, S, K, C) for S neighborhoods of K points.

The two at the heart of PointNet++ are computed in a cheaper order than they are usually written. `plain = True` computes
them as written, module by module, for tests and for tools that hook into modules.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from reldrop.utils.overrides import overridable
from reldrop.utils.point_ops import gather_points


class PointNorm(nn.BatchNorm1d):
    """Batch norm over all points: (..., C), statistics over everything but the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


class GroupedLinear(nn.Module):
    """The first layer of a neighborhood: linear([x_j - c, f_j]) for each neighbor j of each centroid c.

    Being linear, it is W [x_j, f_j] - W_x c: computed once for each point and once for each centroid, and only then
    gathered, instead of once for each neighbor.

    Args:
        channels: of a point, its coordinates (3) first.
        width: number of outputs.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width)
        self.plain = False

    def forward(self, points: Tensor, centroids: Tensor, index: Tensor) -> Tensor:
        """Return (B, S, K, width).

        Args:
            points: (B, N, channels).
            centroids: (B, S, 3).
            index: (B, S, K), the neighbors of each centroid.
        """
        if self.plain:
            neighbors = gather_points(points, index)
            offset = neighbors[..., :3] - centroids[:, :, None]
            return self.linear(torch.cat([offset, neighbors[..., 3:]], -1))
        return grouped_linear(points, self.linear.weight, self.linear.bias, centroids, index)


@overridable
def grouped_linear(points: Tensor, weight: Tensor, bias: Tensor, centroids: Tensor, index: Tensor) -> Tensor:
    """`GroupedLinear` as a function of its weights.

    Under autocast as well it computes in full precision: the difference of two positions in half precision would keep no
    digit of a small distance.
    """
    device, cast = points.device.type, torch.is_autocast_enabled(points.device.type)
    with torch.autocast(device, enabled=False):
        of_points = F.linear(points.to(weight.dtype), weight, bias)
        of_centroids = F.linear(centroids.to(weight.dtype), weight[:, :3])
        grouped = gather_points(of_points, index).add_(-of_centroids[:, :, None])  # negated where it is small
    return grouped.to(torch.get_autocast_dtype(device)) if cast else grouped


class NormMax(nn.Module):
    """Batch norm, ReLU, and the maximum over the second last dimension: (..., K, C) -> (..., C).

    Only the winners are normalized and rectified, which is the same since both are monotonous in each channel; the
    statistics are those of all.

    Args:
        width: number of channels C.
        rectify: False to leave the ReLU out.
    """

    def __init__(self, width: int, rectify: bool = True) -> None:
        super().__init__()
        self.norm = PointNorm(width)
        self.rectify = rectify
        self.plain = False

    def forward(self, x: Tensor) -> Tensor:
        # In half precision, F.batch_norm has kernels that mix it with full precision; the function below has not.
        norm = self.norm
        if self.plain or (self.training and x.dtype in (torch.float16, torch.bfloat16)):
            x = norm(x)
            return (F.relu(x) if self.rectify else x).max(-2).values
        if not self.training:
            return norm_max(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps, self.rectify)
        norm.num_batches_tracked.add_(1)
        groups = x.flatten(0, -3)
        statistics = torch.batch_norm_update_stats(
            groups.detach().flatten(0, 1), norm.running_mean, norm.running_var, norm.momentum
        )
        pooled = _NormMax.apply(groups, norm.weight, norm.bias, *statistics, norm.eps)
        return (F.relu(pooled) if self.rectify else pooled).view(*x.shape[:-2], -1)


@overridable
def norm_max(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, rectify: bool
) -> Tensor:
    """`NormMax` in evaluation mode, as a function of its parameters and statistics."""
    x = F.batch_norm(x.flatten(0, -2), mean, variance, weight, bias, eps=eps).view_as(x)
    return (F.relu(x) if rectify else x).max(-2).values


class _NormMax(Function):
    """The maximum over K of batch-normalized x (M, K, C), given mean and variance (C,) of x over M and K."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        deviation = (variance + eps).sqrt()
        winner, index = x.max(1)
        if x.is_cuda or (weight < 0).any():  # where the norm turns a channel round; on a GPU, asking would cost more
            lowest, lowest_index = x.min(1)
            winner = torch.where(weight < 0, lowest, winner)
            index = torch.where(weight < 0, lowest_index, index)
        normalized = (winner - mean) / deviation
        ctx.save_for_backward(x, weight, mean, deviation, normalized, index)
        return torch.addcmul(bias, normalized, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The backward pass of batch norm for a gradient that is zero except at the winners.

        dx = w/s (dy - mean(dy) - n mean(dy n)), with n = (x - m)/s: linear in x but for the winners' dy.
        """
        x, weight, mean, deviation, normalized, index = ctx.saved_tensors
        count = x.shape[0] * x.shape[1]
        grad_bias = grad.sum(0)
        grad_weight = (grad * normalized).sum(0)
        scale = weight / deviation
        slope = -scale * grad_weight / (count * deviation)
        offset = -scale * grad_bias / count - slope * mean
        grad_x = (x * slope).add_(offset).scatter_add_(1, index[:, None], (grad * scale)[:, None])
        return grad_x, grad_weight, grad_bias, None, None, None


class SharedLayers(nn.Module):
    """Linear, batch norm, ReLU, for each width: the same for every point (..., C).

    The ReLU is not in place: autograd would copy the view that the norm returns.

    Args:
        widths: channels of the input, then of each layer.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), PointNorm(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def classifier(width: int, num_classes: int, dropout: tuple[float, float]) -> nn.Sequential:
    """The head of PointNet and PointNet++: (B, width) -> 512 -> 256 -> logits (B, num_classes).

    Args:
        dropout: rates behind the two hidden layers.
    """
    return nn.Sequential(
        *(nn.Linear(width, 512), PointNorm(512), nn.ReLU(), nn.Dropout(dropout[0])),
        *(nn.Linear(512, 256), PointNorm(256), nn.ReLU(), nn.Dropout(dropout[1])),
        nn.Linear(256, num_classes),
    )

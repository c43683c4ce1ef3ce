"""Sampling, neighborhoods and alignment of point clouds, for whole batches.

Plain torch operations on any device; on CUDA, sampling and neighborhoods are single kernels where Triton is installed.
Either way each is one operation to torch.compile and to whoever counts operations.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from reldrop.utils.overrides import overridable


@overridable
def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Farthest point sampling: each next point is the one farthest from all chosen so far (Eldar et al. 1997).

    It starts at the first point of each cloud, so that the choice is a function of the cloud alone. Points in the
    order of a sampling are their own sampling: of an already sampled cloud, this chooses the first `count`.

    Args:
        xyz: (B, N, 3), coordinates.
        count: how many to choose; a smaller cloud is chosen whole.

    Returns:
        Indices int64 (B, min(count, N)), in the order of choice; of equally far points, the first.
    """
    return _farthest_points(xyz.detach(), count)


@overridable
def ball_query(xyz: Tensor, centroids: Tensor, radii: Sequence[float], counts: Sequence[int]) -> list[Tensor]:
    """Find up to `count` points within `radius` of each centroid, the first ones in the order of the cloud.

    Args:
        xyz: (B, N, 3), coordinates.
        centroids: (B, S, 3), among the points of the cloud, so that no ball is empty (of an empty one, the last point).
        radii: of one or more neighborhoods of each centroid.
        counts: neighbors to find in each; where a ball has fewer, its first one is repeated (Qi et al. 2017).

    Returns:
        For each radius, indices int64 (B, S, count).
    """
    return _ball_query(xyz.detach(), centroids.detach(), list(radii), list(counts))


@overridable
def gather_points(values: Tensor, index: Tensor) -> Tensor:
    """Return the rows that `index` names: values (B, N, C), index (B, ...) -> (B, ..., C)."""
    batch, size, channels = values.shape
    first = torch.arange(0, batch * size, size, device=index.device).view(-1, *[1] * (index.ndim - 1))
    # An embedding reads whole rows, and its backward pass adds up rows faster than that of any kind of indexing.
    return torch.nn.functional.embedding(index + first, values.reshape(batch * size, channels))


@overridable
def align(points: Tensor, matrix: Tensor) -> Tensor:
    """Return the points (B, N, C) multiplied by the matrix (B, C, C) of their cloud."""
    return torch.bmm(points, matrix)


@torch.library.custom_op("reldrop::farthest_points", mutates_args=())
def _farthest_points(xyz: Tensor, count: int) -> Tensor:
    batch, size, _ = xyz.shape
    planes = xyz.movedim(-1, 0).contiguous()  # a coordinate at a time, each (B, N), is what vectorises
    chosen = torch.zeros(batch, min(count, size), dtype=torch.long, device=xyz.device)
    nearest = torch.full((batch, size), torch.inf, dtype=xyz.dtype, device=xyz.device)  # squared, to the chosen ones
    last = chosen[:, :1]
    for step in range(1, chosen.shape[1]):
        distance = torch.zeros_like(nearest)
        for plane in planes:
            offset = plane - plane.gather(1, last)
            distance.addcmul_(offset, offset)
        torch.minimum(nearest, distance, out=nearest)
        last = nearest.argmax(1, keepdim=True)
        chosen[:, step] = last[:, 0]
    return chosen


@_farthest_points.register_fake
def _(xyz: Tensor, count: int) -> Tensor:
    return xyz.new_empty(xyz.shape[0], min(count, xyz.shape[1]), dtype=torch.long)


@torch.library.custom_op("reldrop::ball_query", mutates_args=())
def _ball_query(xyz: Tensor, centroids: Tensor, radii: list[float], counts: list[int]) -> list[Tensor]:
    # Exact distances: the usual |x|^2 - 2 x.c + |c|^2 loses half of the digits of a small one.
    distance = torch.cdist(centroids, xyz, compute_mode="donot_use_mm_for_euclid_dist")
    return [_first_within(distance, radius, count) for radius, count in zip(radii, counts, strict=True)]


def _first_within(distance: Tensor, radius: float, count: int) -> Tensor:
    # How many neighbors there are up to each point: the k-th is where this first reaches k. No sorting.
    rank = (distance <= radius).cumsum(-1, dtype=torch.int32)
    wanted = torch.arange(1, count + 1, dtype=torch.int32, device=distance.device)
    found = torch.searchsorted(rank, wanted.expand(*rank.shape[:2], count).contiguous())
    size = distance.shape[-1]
    return torch.where(found < size, found, found[..., :1]).clamp_(max=size - 1)


@_ball_query.register_fake
def _(xyz: Tensor, centroids: Tensor, radii: list[float], counts: list[int]) -> list[Tensor]:
    return [xyz.new_empty(*centroids.shape[:2], count, dtype=torch.long) for count in counts]


if find_spec("triton"):  # imported with the first call

    @_farthest_points.register_kernel("cuda")
    def _(xyz: Tensor, count: int) -> Tensor:
        from reldrop.utils import point_kernels

        return point_kernels.farthest_points(xyz, count)

    @_ball_query.register_kernel("cuda")
    def _(xyz: Tensor, centroids: Tensor, radii: list[float], counts: list[int]) -> list[Tensor]:
        from reldrop.utils import point_kernels

        balls = zip(radii, counts, strict=True)
        return [point_kernels.ball_query(xyz, centroids, radius, count) for radius, count in balls]

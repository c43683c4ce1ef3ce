"""Sampling, neighborhoods and alignment of point clouds, for whole batches, in plain torch operations on any device."""

import torch
from torch import Tensor

from reldrop.utils.overrides import overridable


@overridable
@torch.no_grad()
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


@overridable
@torch.no_grad()
def ball_query(xyz: Tensor, centroids: Tensor, radius: float, count: int) -> Tensor:
    """Find up to `count` points within `radius` of each centroid, the first ones in the order of the cloud.

    Args:
        xyz: (B, N, 3), coordinates.
        centroids: (B, S, 3), among the points of the cloud, so that no ball is empty (of an empty one, the last point).
        count: neighbors to find; where a ball has fewer, its first one is repeated (Qi et al. 2017).

    Returns:
        Indices int64 (B, S, count).
    """
    # Exact distances: the usual |x|^2 - 2 x.c + |c|^2 loses half of the digits of a small one.
    distance = torch.cdist(centroids, xyz, compute_mode="donot_use_mm_for_euclid_dist")
    # How many neighbors there are up to each point: the k-th is where this first reaches k. No sorting.
    rank = (distance <= radius).cumsum(-1, dtype=torch.int32)
    wanted = torch.arange(1, count + 1, dtype=torch.int32, device=xyz.device)
    found = torch.searchsorted(rank, wanted.expand(*rank.shape[:2], count).contiguous())
    return torch.where(found < xyz.shape[1], found, found[..., :1]).clamp_(max=xyz.shape[1] - 1)


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

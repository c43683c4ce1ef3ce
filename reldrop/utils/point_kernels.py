"""`point_ops` on CUDA: one kernel for a whole sampling, or for all neighborhoods of a radius, in place of many small ones."""

import torch
import triton
import triton.language as tl
from torch import Tensor


def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Do what `point_ops.farthest_points` does, a program for each cloud."""
    batch, size, _ = xyz.shape
    chosen = torch.empty(batch, min(count, size), dtype=torch.long, device=xyz.device)
    block = triton.next_power_of_2(size)
    warps = max(1, min(16, block // 256))
    _farthest_points[(batch,)](xyz.contiguous(), chosen, size, chosen.shape[1], BLOCK=block, num_warps=warps)
    return chosen


def ball_query(xyz: Tensor, centroids: Tensor, radius: float, count: int) -> Tensor:
    """Do what `point_ops.ball_query` does for one radius, a program for each centroid."""
    batch, size, _ = xyz.shape
    found = torch.empty(batch, centroids.shape[1], count, dtype=torch.long, device=xyz.device)
    radius = torch.full((1,), radius, dtype=xyz.dtype, device=xyz.device)  # an argument would be of single precision
    _ball_query[(centroids.shape[1], batch)](
        *(xyz.contiguous(), centroids.contiguous(), radius, found, size, centroids.shape[1], count),
        BLOCK=min(1024, triton.next_power_of_2(size)),
        COUNT=triton.next_power_of_2(count),
        num_warps=2,
    )
    return found


@triton.jit
def _farthest_points(xyz, chosen, size, count, BLOCK: tl.constexpr):
    cloud = tl.program_id(0).to(tl.int64)
    point = tl.arange(0, BLOCK)
    inside = point < size
    start = xyz + cloud * size * 3
    x = tl.load(start + point * 3, mask=inside, other=0.0)
    y = tl.load(start + point * 3 + 1, mask=inside, other=0.0)
    z = tl.load(start + point * 3 + 2, mask=inside, other=0.0)
    nearest = tl.where(inside, float("inf"), -1.0).to(x.dtype)  # squared distance to the chosen ones
    last = 0
    tl.store(chosen + cloud * count, last)
    for step in range(1, count):
        dx = x - tl.load(start + last * 3)
        dy = y - tl.load(start + last * 3 + 1)
        dz = z - tl.load(start + last * 3 + 2)
        nearest = tl.minimum(nearest, dx * dx + dy * dy + dz * dz)
        last = tl.argmax(nearest, 0)  # of equal ones, the first
        tl.store(chosen + cloud * count + step, last)


@triton.jit
def _ball_query(xyz, centroids, radius, found, size, number, count, BLOCK: tl.constexpr, COUNT: tl.constexpr):
    cloud = tl.program_id(1).to(tl.int64)
    row = cloud * number + tl.program_id(0)
    start, out = xyz + cloud * size * 3, found + row * count
    cx = tl.load(centroids + row * 3)
    cy = tl.load(centroids + row * 3 + 1)
    cz = tl.load(centroids + row * 3 + 2)
    limit = tl.load(radius)
    so_far, first, begin = 0, size, 0
    while (begin < size) & (so_far < count):
        point = begin + tl.arange(0, BLOCK)
        inside = point < size
        dx = tl.load(start + point * 3, mask=inside, other=0.0) - cx
        dy = tl.load(start + point * 3 + 1, mask=inside, other=0.0) - cy
        dz = tl.load(start + point * 3 + 2, mask=inside, other=0.0) - cz
        near = inside & (dx * dx + dy * dy + dz * dz <= limit * limit)
        place = so_far + tl.cumsum(near.to(tl.int32), 0) - 1
        tl.store(out + place, point, mask=near & (place < count))
        first = tl.minimum(first, tl.min(tl.where(near, point, size), 0))
        so_far += tl.sum(near.to(tl.int32), 0)
        begin += BLOCK
    # Too few neighbors: the first one again; of an empty ball, the last point.
    place = tl.arange(0, COUNT)
    tl.store(out + place, tl.minimum(first, size - 1), mask=(place >= so_far) & (place < count))

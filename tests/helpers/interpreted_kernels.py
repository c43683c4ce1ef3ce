"""The kernels of CUDA against the operations of torch, on the CPU: a process of its own, with TRITON_INTERPRET=1.

Triton decides when it is imported whether it interprets.
"""

import torch

from reldrop.utils import point_kernels
from reldrop.utils.point_ops import ball_query, farthest_points


def compare(size: int, dtype: torch.dtype) -> None:
    # Coordinates of few digits: squares and their sums are exact in any order, and many distances are equal.
    draws = torch.Generator().manual_seed(size)
    xyz = torch.randint(-8, 9, (2, size, 3), generator=draws).to(dtype) / 8
    assert torch.equal(point_kernels.farthest_points(xyz, 40), farthest_points(xyz, 40)), (size, dtype)
    centroids = torch.cat([xyz[:, :4], torch.full((2, 1, 3), 9.0, dtype=dtype)], 1)
    for radius, count in ((0.25, 3), (0.5, 32), (0.0, 2)):
        (expected,) = ball_query(xyz, centroids, [radius], [count])
        found = point_kernels.ball_query(xyz, centroids, radius, count)
        assert torch.equal(found, expected), (size, dtype, radius)


if __name__ == "__main__":
    for size in (1, 5, 64, 1100):
        for dtype in (torch.float32, torch.float64):
            compare(size, dtype)
    print("equal")

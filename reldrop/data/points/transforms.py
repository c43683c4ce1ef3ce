"""What training does to point clouds: rotate, scale, shift and jitter, a whole batch at once.

The few numbers per cloud are drawn on the CPU and moved without waiting; noise per point is drawn on the clouds' device.
Sums of products are written out elementwise: a matrix product would be rounded under autocast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from reldrop.distributed.sharding import Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator
from reldrop.utils.types import NonNegative, Positive, Two, checked

Axis = Literal["x", "y", "z", "any"]
Range = Annotated[Sequence[Positive], Two]
JITTER_LIMIT = 5.0  # standard deviations


def rotate(clouds: Tensor, matrices: Tensor) -> Tensor:
    """Rotate points and normals: clouds (B, P, 3 or 6), matrices (B, 3, 3), each applied to column vectors."""
    vectors = clouds.unflatten(-1, (-1, 1, 3))  # (B, P, vectors, 1, 3)
    return (vectors * matrices[:, None, None]).sum(-1).flatten(-2)


def scale_and_shift(clouds: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale the points of clouds (B, P, 3 or 6) by `scale` (B,), then shift them by `shift` (B, 3); normals stay."""
    points, normals = clouds[..., :3], clouds[..., 3:]
    return torch.cat([points * scale[:, None, None] + shift[:, None], normals], -1)


def jitter(clouds: Tensor, noise: Tensor, deviation: float) -> Tensor:
    """Add `noise` (B, P, 3), standard normal, times `deviation` to the points, clipped at 5 deviations; normals stay."""
    noise = noise.clamp(-JITTER_LIMIT, JITTER_LIMIT) * deviation
    return torch.cat([clouds[..., :3] + noise, clouds[..., 3:]], -1)


def draw_rotations(count: int, axis: str, generator: torch.Generator | None) -> Tensor:
    """Draw rotation matrices (count, 3, 3): by a uniform angle about axis x, y or z, or "any", uniform over all."""
    from scipy.spatial.transform import Rotation

    if axis == "any":  # a normally distributed quaternion has a uniform direction
        rotations = Rotation.from_quat(torch.randn(count, 4, generator=generator).numpy(), scalar_first=True)
    else:
        angles = 2 * math.pi * torch.rand(count, 1, generator=generator)
        rotations = Rotation.from_euler(axis, angles.numpy())
    return torch.from_numpy(rotations.as_matrix()).float()


@checked
@dataclass
class PointTransform:
    """Random rotation, scale, shift and jitter, in this order, with draws for each cloud.

    Attributes:
        scale: smallest and largest factor, 0 < smallest <= largest; None for no scaling.
        shift: largest distance along each axis, at least 0.
        rotate: axis of a rotation by a random angle, x, y or z; "any" for a random rotation of all; None for none.
        jitter: standard deviation of the noise of each coordinate, at least 0; clipped at 5 standard deviations.

    Raises:
        ReldropError: one of them is out of range.
    """

    scale: Range | None = None
    shift: NonNegative = 0.0
    rotate: Axis | None = None
    jitter: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ReldropError(f"scale={list(self.scale)} must be two factors, smallest <= largest, or null")
        self.scale = None if self.scale is None else (float(self.scale[0]), float(self.scale[1]))

    def __call__(self, clouds: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """Return perturbed copies of clouds (B, P, 3 or 6), on any device; see `reldrop.data.Data.transform`."""
        shard, device = shard or Shard.whole(len(clouds)), clouds.device
        if self.rotate is not None:
            matrices = draw_rotations(shard.count, self.rotate, generator)[shard.rows]
            clouds = rotate(clouds, matrices.to(device, non_blocking=True))
        if self.scale is not None or self.shift:
            smallest, largest = self.scale or (1.0, 1.0)
            draws = torch.rand(shard.count, 4, generator=generator)[shard.rows]
            draws = draws.to(device, non_blocking=True)
            scale = smallest + (largest - smallest) * draws[:, 0]
            clouds = scale_and_shift(clouds, scale, (2 * draws[:, 1:] - 1) * self.shift)
        if self.jitter:
            noise = torch.empty(shard.count, *clouds.shape[1:-1], 3, dtype=clouds.dtype, device=device)
            noise.normal_(generator=device_generator(generator, device))
            clouds = jitter(clouds, noise[shard.rows], self.jitter)
        return clouds

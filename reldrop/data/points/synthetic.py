"""Point clouds of geometric bodies, generated: a data set of point clouds that needs no files."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reldrop.data.points.dataset import PointData, Points, PointSplit
from reldrop.data.points.transforms import Axis, PointTransform, Range, draw_rotations, rotate
from reldrop.data.splits import split_training, stratified_subset
from reldrop.utils.seeding import generator
from reldrop.utils.types import Count, FractionBelowOne, NonNegative, checked

TRAIN, TEST = 60, 20  # clouds of each class
NOISE = 0.02  # standard deviation of each coordinate of a point, in a unit ball
TAU = 2 * math.pi

Surface = tuple[Tensor, Tensor]  # points and their normals, each (n, P, 3)


@checked
def shapes(
    name: str,
    points: Points = 256,
    normals: bool = True,
    scale: Range | None = None,
    shift: NonNegative = 0.0,
    rotate: Axis | None = None,
    jitter: NonNegative = 0.0,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
) -> PointData:
    """Generate ten kinds of bodies of random proportions, turned at random and slightly noisy, the same ones always.

    Points lie on the surface; normals are those of the body without noise. The parameters are those of the sets that
    lie in files.
    """
    perturbation = PointTransform(scale, shift, rotate, jitter)
    clouds = torch.cat([_clouds(kind, points) for kind in BODIES])[..., : 6 if normals else 3].contiguous()
    labels = torch.arange(len(BODIES)).repeat_interleave(TRAIN + TEST)
    train = torch.arange(len(labels)) % (TRAIN + TEST) < TRAIN
    kept, held_out = split_training(labels[train], validation, subset, "cloud")
    tested = stratified_subset(labels[~train], test_subset, "test_subset", "cloud")

    def choose(part: Tensor, indices: Tensor) -> PointSplit:
        return PointSplit(clouds[part][indices], labels[part][indices])

    return PointData(
        name,
        tuple(BODIES),
        "generated",
        choose(train, kept),
        choose(~train, tested),
        None if held_out is None else choose(train, held_out),
        perturbation,
    )


def _clouds(kind: str, points: int) -> Tensor:
    """Return all clouds of one class, (n, points, 6), centered and in the unit ball, with exact normals."""
    draws = generator(0, f"shapes {kind}")
    count = TRAIN + TEST
    xyz, normals = BODIES[kind](count, points, draws)
    turned = rotate(torch.cat([xyz, normals], -1), draw_rotations(count, "any", draws))
    xyz, normals = turned.split(3, -1)
    xyz = _in_unit_ball(_in_unit_ball(xyz) + NOISE * torch.randn(xyz.shape, generator=draws))
    return torch.cat([xyz, normals], -1)


def _in_unit_ball(xyz: Tensor) -> Tensor:
    xyz = xyz - xyz.mean(1, keepdim=True)
    return xyz / xyz.norm(dim=2, keepdim=True).amax(1, keepdim=True)


# ---- bodies: points on the surface and their normals, evenly over the surface unless it is said otherwise --------------


def _ellipsoid(count: int, points: int, draws: torch.Generator) -> Surface:
    axes = _uniform(0.4, 1, (count, 1, 3), draws)
    sphere = _unit(torch.randn(count, points, 3, generator=draws))  # denser where the body is narrow
    return sphere * axes, _unit(sphere / axes)


def _box(count: int, points: int, draws: torch.Generator) -> Surface:
    half = _uniform(0.3, 1, (count, 1, 3), draws)
    faces = half.prod(-1) / half[:, 0]  # (count, 3), area of the faces across each axis
    axis = torch.multinomial(faces, points, replacement=True, generator=draws)
    normals = torch.nn.functional.one_hot(axis, 3) * _sign((count, points, 1), draws)
    inside = _uniform(-1, 1, (count, points, 3), draws)
    return torch.where(normals != 0, normals, inside) * half, normals.float()


def _cylinder(count: int, points: int, draws: torch.Generator) -> Surface:
    height = _uniform(0.8, 3, (count, 1), draws)  # of a radius of 1
    side = torch.rand(count, points, generator=draws) < height / (height + 1)
    return _select(side, _wall(height, points, draws), _caps(height, points, draws))


def _tube(count: int, points: int, draws: torch.Generator) -> Surface:
    return _wall(_uniform(0.8, 3, (count, 1), draws), points, draws)


def _capsule(count: int, points: int, draws: torch.Generator) -> Surface:
    height = _uniform(0.8, 3, (count, 1), draws)
    side = torch.rand(count, points, generator=draws) < height / (height + 2)
    sphere = _unit(torch.randn(count, points, 3, generator=draws))
    ends = sphere.clone()
    ends[..., 2] += sphere[..., 2].sign() * height / 2
    return _select(side, _wall(height, points, draws), (ends, sphere))


def _bowl(count: int, points: int, draws: torch.Generator) -> Surface:
    """The part of a sphere below some height, open."""
    top = _uniform(-0.3, 0.4, (count, 1), draws)
    z = (top + 1) * torch.rand(count, points, generator=draws) - 1
    circle = _circle(count, points, draws) * (1 - z**2).sqrt()[..., None]
    sphere = torch.cat([circle, z[..., None]], -1)
    return sphere, sphere


def _cone(count: int, points: int, draws: torch.Generator) -> Surface:
    height = _uniform(1, 3, (count, 1), draws)
    slant = (1 + height**2).sqrt()
    circle, radius = _circle(count, points, draws), torch.rand(count, points, generator=draws).sqrt()
    side = torch.rand(count, points, generator=draws) < slant / (slant + 1)
    ring = circle * radius[..., None]
    wall = torch.cat([ring, (height * (1 - radius))[..., None]], -1)
    slope = torch.cat([circle * (height / slant)[..., None], (1 / slant)[..., None].expand(-1, points, -1)], -1)
    base = torch.cat([ring, torch.zeros_like(radius)[..., None]], -1)
    return _select(side, (wall, slope), (base, torch.tensor([0.0, 0, -1]).expand_as(base)))


def _pyramid(count: int, points: int, draws: torch.Generator) -> Surface:
    """A square base and four triangles that meet above its center."""
    height = _uniform(1, 3, (count, 1), draws)
    slant = (1 + height**2).sqrt()
    side = torch.rand(count, points, generator=draws) < slant / (slant + 1)  # areas 4 slant and 4
    square = _uniform(-1, 1, (count, points, 2), draws)
    distance, axis = square.abs().max(-1, keepdim=True)  # from the center, as wide as the triangles are there
    outward = torch.zeros_like(square).scatter_(-1, axis, square.gather(-1, axis).sign())
    wall = torch.cat([square, height[..., None] * (1 - distance)], -1)
    slope = torch.cat([outward * (height / slant)[..., None], (1 / slant)[..., None].expand(-1, points, -1)], -1)
    base = torch.cat([square, torch.zeros_like(distance)], -1)
    return _select(side, (wall, slope), (base, torch.tensor([0.0, 0, -1]).expand_as(base)))


def _torus(count: int, points: int, draws: torch.Generator) -> Surface:
    """Denser on the inside."""
    thickness = _uniform(0.2, 0.5, (count, 1, 1), draws)
    around, across = _circle(count, points, draws), _circle(count, points, draws)
    normals = torch.cat([around * across[..., :1], across[..., 1:]], -1)
    ring = torch.cat([around, torch.zeros(count, points, 1)], -1)
    return ring + thickness * normals, normals


def _helix(count: int, points: int, draws: torch.Generator) -> Surface:
    """A thin pipe that winds up around an axis."""
    turns, pitch = _uniform(1.5, 3, (count, 1), draws), _uniform(0.1, 0.25, (count, 1), draws)  # rise per radian
    angle = turns * TAU * torch.rand(count, points, generator=draws)
    cos, sin, zero, rise = angle.cos(), angle.sin(), torch.zeros_like(angle), pitch.expand_as(angle)
    center = torch.stack([cos, sin, pitch * angle], -1)
    outward = torch.stack([cos, sin, zero], -1)
    upward = _unit(torch.stack([rise * sin, -rise * cos, zero + 1], -1))  # across the pipe, as `outward` is
    across = _circle(count, points, draws)
    normals = across[..., :1] * outward + across[..., 1:] * upward
    return center + 0.12 * normals, normals


BODIES: dict[str, Callable[[int, int, torch.Generator], Surface]] = {
    "bowl": _bowl,
    "box": _box,
    "capsule": _capsule,
    "cone": _cone,
    "cylinder": _cylinder,
    "ellipsoid": _ellipsoid,
    "helix": _helix,
    "pyramid": _pyramid,
    "torus": _torus,
    "tube": _tube,
}


# ---- parts of bodies ---------------------------------------------------------------------------------------------------


def _wall(height: Tensor, points: int, draws: torch.Generator) -> Surface:
    """The side of cylinders of radius 1 and `height` (n, 1)."""
    circle = _circle(len(height), points, draws)
    z = height * (torch.rand(len(height), points, generator=draws) - 0.5)
    return torch.cat([circle, z[..., None]], -1), torch.cat([circle, torch.zeros_like(z)[..., None]], -1)


def _caps(height: Tensor, points: int, draws: torch.Generator) -> Surface:
    """The two ends of cylinders of radius 1 and `height` (n, 1)."""
    shape = (len(height), points, 1)
    disc = _circle(*shape[:2], draws) * torch.rand(shape, generator=draws).sqrt()
    side = _sign(shape, draws)
    return (
        torch.cat([disc, side * height[..., None] / 2], -1),
        torch.cat([torch.zeros_like(disc), side], -1),
    )


def _select(first: Tensor, surface: Surface, other: Surface) -> Surface:
    """Take the points of one surface where `first` (n, P) holds, and of the other elsewhere."""
    mask = first[..., None]
    return torch.where(mask, surface[0], other[0]), torch.where(mask, surface[1], other[1])


def _circle(count: int, points: int, draws: torch.Generator) -> Tensor:
    angle = TAU * torch.rand(count, points, generator=draws)
    return torch.stack([angle.cos(), angle.sin()], -1)


def _uniform(low: float, high: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=draws)


def _sign(shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=draws).float() * 2 - 1


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)

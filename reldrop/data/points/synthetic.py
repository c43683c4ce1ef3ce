"""Point clouds of ten kinds of geometric bodies, generated: a data set of point clouds that needs no files."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from reldrop.data.paths import Files
from reldrop.data.points.files import sample_surface
from reldrop.data.points.preprocessing import in_unit_ball
from reldrop.data.points.transforms import draw_rotations, rotate
from reldrop.data.readers import Listing
from reldrop.utils.machine import Machine
from reldrop.utils.seeding import derive_seed, generator

if TYPE_CHECKING:
    from trimesh import Trimesh

BODIES = ("bowl", "box", "capsule", "cone", "cylinder", "ellipsoid", "helix", "pyramid", "torus", "tube")
NOISE = 0.02  # standard deviation of each coordinate of a point, in a unit ball
TRAIN, TEST = 60, 20  # clouds of each kind


class BodyListing(Listing):
    """The clouds of bodies. Only those that are chosen are generated."""

    @classmethod
    def of(cls) -> Self:
        """List the same clouds always: `TRAIN` and `TEST` of each kind."""
        items = {}
        for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
            places = [(kind, number) for kind in BODIES for number in numbers]
            items[split] = Files(places, torch.arange(len(BODIES)).repeat_interleave(len(numbers)))
        return cls("shapes", BODIES, **items, source="generated")

    def read(
        self, chosen: Mapping[str, Tensor], name: str, points: int, normals: bool, machine: Machine
    ) -> dict[str, Tensor]:
        """Generate the chosen clouds, see `FileListing.read`."""
        channels = 6 if normals else 3
        return {
            split: torch.stack([body_cloud(*place, points)[:, :channels] for place in self.items(split)[index].paths])
            for split, index in chosen.items()
        }


def body_cloud(kind: str, number: int, points: int) -> Tensor:
    """Return the noisy cloud of a body in a random pose, float32 (points, 6), in the unit ball.

    It depends only on the arguments: the kind of body, one of `BODIES`, the number of the cloud among those of its kind,
    and how many points are drawn evenly on the surface. Normals are those of the body without noise.
    """
    seed = derive_seed(0, f"shapes {kind}", number)
    rng = np.random.default_rng(seed)
    cloud = torch.from_numpy(sample_surface(body(kind, rng), points, seed))
    pose = draw_rotations(1, "any", generator(0, f"pose of {kind}", number))
    cloud = in_unit_ball(rotate(cloud[None], pose)[0].numpy())
    cloud[:, :3] += rng.normal(0, NOISE, (points, 3))
    return torch.from_numpy(in_unit_ball(cloud))


def body(kind: str, rng: np.random.Generator) -> "Trimesh":
    """Return the surface of a body of random proportions; the curved ones are facetted."""
    from trimesh import creation  # trimesh takes a second to import

    match kind:
        case "bowl":  # the part of a sphere below some height, open
            angle = np.linspace(0, math.acos(-rng.uniform(-0.3, 0.4)), 24)
            return creation.revolve(np.stack([np.sin(angle), -np.cos(angle)], 1))
        case "box":
            return creation.box(rng.uniform(0.6, 2, 3))
        case "capsule":
            return creation.capsule(rng.uniform(0.8, 3), 1, count=(32, 16))
        case "cone":
            return creation.cone(1, rng.uniform(1, 3))
        case "cylinder":
            return creation.cylinder(1, rng.uniform(0.8, 3))
        case "ellipsoid":
            return creation.icosphere(3).apply_scale(rng.uniform(0.4, 1, 3))
        case "helix":
            return _helix(rng.uniform(1.5, 3), rng.uniform(0.1, 0.25))
        case "pyramid":
            return creation.cone(math.sqrt(2), rng.uniform(1, 3), sections=4)
        case "torus":
            return creation.torus(1, rng.uniform(0.2, 0.5), minor_sections=16)
        case "tube":
            return creation.annulus(rng.uniform(0.7, 0.9), 1, rng.uniform(0.8, 3))
    raise ValueError(f"kind={kind!r} must be one of {', '.join(BODIES)}")


def _helix(turns: float, pitch: float, radius: float = 0.12) -> "Trimesh":
    """A pipe that winds up around an axis at distance 1, and rises by `pitch` a radian."""
    from trimesh import Trimesh

    along, around = np.meshgrid(np.linspace(0, math.tau * turns, 128), np.linspace(0, math.tau, 33), indexing="ij")
    cos, sin, zero = np.cos(along), np.sin(along), np.zeros_like(along)
    outward = np.stack([cos, sin, zero], -1)
    upward = np.stack([pitch * sin, -pitch * cos, zero + 1], -1) / math.hypot(1, pitch)
    pipe = np.cos(around)[..., None] * outward + np.sin(around)[..., None] * upward
    vertices = outward + np.stack([zero, zero, pitch * along], -1) + radius * pipe
    index = np.arange(along.size).reshape(along.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack(corners, -1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
    return Trimesh(vertices.reshape(-1, 3), faces, process=False)

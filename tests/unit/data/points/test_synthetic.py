"""Generated shapes."""

import pytest
import torch

from reldrop import data
from reldrop.data.points.synthetic import BODIES
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator


def test_shapes() -> None:
    clouds = data.shapes("shapes", validation=0.1, test_subset=50)
    assert (len(clouds.train), len(clouds.validation), len(clouds.test), clouds.num_classes) == (540, 60, 50, 10)
    assert clouds.train.points.shape == (540, 256, 6)
    assert torch.equal(clouds.train.points, data.shapes("shapes", validation=0.1).train.points)
    assert torch.allclose(clouds.train.points[..., :3].norm(dim=-1).amax(1), torch.ones(540))
    assert torch.allclose(clouds.train.points[..., 3:].norm(dim=-1), torch.ones(540, 256), atol=1e-5)
    assert data.shapes("shapes", points=64, normals=False).train.points.shape == (600, 64, 3)
    with pytest.raises(ReldropError, match=r"points=0 must be at least 2"):
        data.shapes("shapes", points=0)


@pytest.mark.parametrize("kind", BODIES)
def test_normals_of_shapes_are_those_of_the_surface(kind: str) -> None:
    points, normals = BODIES[kind](3, 3000, generator(0, "test"))
    assert torch.allclose(normals.norm(dim=-1), torch.ones(3, 3000), atol=1e-5)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = distances.topk(4, largest=False).indices[..., 1:]
    # The way to a close neighbor on the same side of an edge is across the normal.
    for body in range(3):
        offsets = points[body][near[body]] - points[body][:, None]
        alike = (normals[body][near[body]] * normals[body][:, None]).sum(-1) > 0.95
        slope = (offsets * normals[body][:, None]).sum(-1).abs() / offsets.norm(dim=-1)
        assert alike.float().mean() > 0.7
        assert slope[alike].mean() < 0.12


@pytest.mark.parametrize("kind", ["box", "cone", "cylinder", "pyramid", "capsule", "ellipsoid"])
def test_normals_of_convex_shapes_point_outward(kind: str) -> None:
    points, normals = BODIES[kind](3, 500, generator(0, "test"))
    # Convexity: no other point lies in front of the plane through a point.
    heights = torch.einsum("bpc,bqc->bpq", normals, points) - (normals * points).sum(-1)[..., None]
    assert heights.max() < 1e-4

"""Generated bodies."""

import numpy as np
import pytest
import torch
from torch import nn

from reldrop import data
from reldrop.data.points import synthetic
from reldrop.data.points.files import sample_surface
from reldrop.data.points.synthetic import BODIES, body, body_cloud
from reldrop.utils.errors import ReldropError


def test_shapes() -> None:
    clouds = data.shapes(name="bodies", points=256, validation=0.1, test_subset=50)
    assert (clouds.name, clouds.classes, clouds.source) == ("bodies", BODIES, "generated")
    assert (len(clouds.train), len(clouds.validation), len(clouds.test), clouds.num_classes) == (540, 60, 50, 10)
    assert clouds.train.points.shape == (540, 256, 6)
    assert torch.allclose(clouds.train.points[..., :3].norm(dim=-1).amax(1), torch.ones(540))
    assert clouds.train.points[..., :3].mean(1).abs().max() < 1e-6
    assert torch.allclose(clouds.train.points[..., 3:].norm(dim=-1), torch.ones(540, 256), atol=1e-5)
    everything = torch.cat([clouds.train.points, clouds.validation.points, clouds.test.points])
    assert len(everything.flatten(1).unique(dim=0)) == 650
    assert data.shapes(points=64, normals=False, subset=10, test_subset=10).train.points.shape == (10, 64, 3)
    with pytest.raises(ReldropError, match=r"points=0 must be at least 2"):
        data.shapes(points=0)


def test_only_chosen_clouds_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = data.shapes(points=16), []

    def counted(kind: str, number: int, points: int) -> torch.Tensor:
        calls.append((kind, number))
        return body_cloud(kind, number, points)

    monkeypatch.setattr(synthetic, "body_cloud", counted)
    some = data.shapes(points=16, subset=20, test_subset=10)
    assert len(calls) == len(set(calls)) == 30
    known = {tuple(cloud.flatten().tolist()) for cloud in whole.train.points}
    assert {tuple(cloud.flatten().tolist()) for cloud in some.train.points} <= known
    assert some.train.labels.bincount().tolist() == [2] * 10


def surface(kind: str, number: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    sampled = sample_surface(body(kind, np.random.default_rng(number)), points, seed=number)
    return torch.from_numpy(sampled).float().split(3, -1)


@pytest.mark.parametrize("kind", BODIES)
def test_normals_of_shapes_are_those_of_the_surface(kind: str) -> None:
    count = 6000 if kind == "helix" else 3000  # its surface is long and narrow
    for number in range(3):
        points, normals = surface(kind, number, count)
        assert torch.allclose(normals.norm(dim=-1), torch.ones(count), atol=1e-5)
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        near = distances.topk(4, largest=False).indices[:, 1:]
        # The way to a close neighbor on the same side of an edge is across the normal.
        offsets = points[near] - points[:, None]
        alike = (normals[near] * normals[:, None]).sum(-1) > 0.95
        slope = (offsets * normals[:, None]).sum(-1).abs() / offsets.norm(dim=-1)
        assert alike.float().mean() > 0.7
        assert slope[alike].mean() < 0.12


# What is 0 on the surface of a body, of its points and of half of its extent in x, y and z.
SURFACES = {
    "bowl": lambda p, half: p.norm(dim=1) - 1,
    "box": lambda p, half: (p.abs() / half).amax(1) - 1,
    "capsule": lambda p, half: torch.cat([p[:, :2], (p[:, 2:].abs() - (half[2] - 1)).relu()], 1).norm(dim=1) - 1,
    "cone": lambda p, half: (p[:, 2] / half[2] / 2 + p[:, :2].norm(dim=1) - 1) * p[:, 2],
    "cylinder": lambda p, half: torch.maximum(p[:, :2].norm(dim=1), p[:, 2].abs() / half[2]) - 1,
    "ellipsoid": lambda p, half: (p / half).norm(dim=1) - 1,
    "torus": lambda p, half: torch.stack([p[:, :2].norm(dim=1) - 1, p[:, 2]], 1).norm(dim=1) - half[2],
}


@pytest.mark.parametrize("kind", SURFACES)
def test_points_are_on_the_surface(kind: str) -> None:
    for number in range(3):
        half = torch.from_numpy(np.ptp(body(kind, np.random.default_rng(number)).bounds, axis=0) / 2).float()
        assert SURFACES[kind](surface(kind, number, 3000)[0], half).abs().max() < 0.025  # curved bodies have facets


@pytest.mark.parametrize("kind", ["box", "cone", "cylinder", "pyramid", "capsule", "ellipsoid"])
def test_normals_of_convex_shapes_point_outward(kind: str) -> None:
    for number in range(3):
        points, normals = surface(kind, number, 500)
        # Convexity: no other point lies in front of the plane through a point.
        heights = normals @ points.T - (normals * points).sum(-1)[:, None]
        assert heights.max() < 1e-4


@pytest.mark.parametrize("kind", ["bowl", "helix", "torus", "tube"])
def test_normals_of_other_shapes_point_away_from_the_middle_of_their_walls(kind: str) -> None:
    points, normals = surface(kind, 0, 500)
    around = points[:, :2] / points[:, :2].norm(dim=1, keepdim=True)
    if kind == "bowl":
        assert (normals * points).sum(1).min() > 0.9
    elif kind == "tube":
        wall = normals[:, 2].abs() < 0.5
        radius = points[:, :2].norm(dim=1)
        side = (normals[:, :2] * around).sum(1)[wall]
        assert torch.equal(side > 0, radius[wall] > radius[wall].mean())
    else:
        side = (normals[:, :2] * around).sum(1)
        far = (points[:, :2].norm(dim=1) - 1).abs() > 0.06
        assert torch.equal(side[far] > 0, points[far][:, :2].norm(dim=1) > 1)


def test_kinds_differ() -> None:
    """A linear classifier of two histograms, which do not depend on the pose, tells most of them apart."""
    clouds = data.shapes(points=256)

    def features(points: torch.Tensor) -> torch.Tensor:
        near = torch.cdist(points[:, :64, :3], points[:, 64:128, :3]).flatten(1)
        alike = (points[:, :64, None, 3:] * points[:, None, 64:128, 3:]).sum(-1).flatten(1)
        return torch.stack(
            [torch.cat([d.histc(16, 0, 2), a.histc(16, -1, 1)]) for d, a in zip(near, alike, strict=True)]
        )

    torch.manual_seed(0)
    train, test = features(clouds.train.points) / 256, features(clouds.test.points) / 256
    model = nn.Linear(32, 10)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train), clouds.train.labels).backward()
        optimizer.step()
    right = model(test).argmax(1) == clouds.test.labels
    assert right.float().mean() > 0.8
    assert right.view(10, 20).float().mean(1).min() > 0.4

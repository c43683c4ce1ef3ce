"""Geometry against plain loops."""

import pytest
import torch

from reldrop.utils.point_ops import ball_query, farthest_points, gather_points
from tests.helpers.point_networks import clouds


@pytest.mark.parametrize(("size", "count"), [(50, 20), (50, 1), (7, 7), (7, 12)])
def test_farthest_points_equal_a_loop(size: int, count: int) -> None:
    xyz = clouds(size=size)[..., :3]
    for cloud, found in zip(xyz, farthest_points(xyz, count), strict=True):
        chosen = [0]
        while len(chosen) < min(count, size):
            nearest = [min((p - cloud[c]).square().sum() for c in chosen) for p in cloud]
            chosen.append(max(range(size), key=lambda i: nearest[i]))
        assert found.tolist() == chosen


def test_a_sampling_is_its_own_sampling() -> None:
    xyz = clouds()[..., :3]
    sampled = gather_points(xyz, farthest_points(xyz, 40))
    assert farthest_points(sampled, 15).tolist() == [list(range(15))] * len(xyz)


@pytest.mark.parametrize(("radius", "count"), [(0.2, 4), (0.5, 16), (1.5, 100)])
def test_ball_query_equals_a_loop(radius: float, count: int) -> None:
    xyz = clouds()[..., :3]
    centroids = gather_points(xyz, farthest_points(xyz, 12))
    found = ball_query(xyz, centroids, radius, count)
    assert found.shape == (3, 12, count)
    for b in range(3):
        for s in range(12):
            inside = [i for i in range(80) if (xyz[b, i] - centroids[b, s]).norm() <= radius][:count]
            assert found[b, s].tolist() == inside + [inside[0]] * (count - len(inside))


def test_an_empty_ball_names_a_point_all_the_same() -> None:
    assert ball_query(torch.zeros(1, 4, 3), torch.ones(1, 1, 3), 0.1, 2).tolist() == [[[3, 3]]]


def test_gather_equals_indexing() -> None:
    values = clouds().requires_grad_()
    index = torch.randint(80, (3, 5, 7))
    found = gather_points(values, index)
    expected = torch.stack([cloud[i] for cloud, i in zip(values, index, strict=True)])
    assert torch.equal(found, expected)
    weights = torch.randn_like(found)
    (a,) = torch.autograd.grad((found * weights).sum(), values)
    (b,) = torch.autograd.grad((expected * weights).sum(), values)
    torch.testing.assert_close(a, b)

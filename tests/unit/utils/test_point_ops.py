"""Geometry against plain loops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

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
    (found,) = ball_query(xyz, centroids, [radius], [count])
    assert found.shape == (3, 12, count)
    for b in range(3):
        for s in range(12):
            inside = [i for i in range(80) if (xyz[b, i] - centroids[b, s]).norm() <= radius][:count]
            assert found[b, s].tolist() == inside + [inside[0]] * (count - len(inside))


def test_an_empty_ball_names_a_point_all_the_same() -> None:
    (found,) = ball_query(torch.zeros(1, 4, 3), torch.ones(1, 1, 3), [0.1], [2])
    assert found.tolist() == [[[3, 3]]]


def test_several_radii_at_once() -> None:
    xyz = clouds()[..., :3]
    found = ball_query(xyz, xyz[:, :9], [0.2, 0.5], [4, 16])
    alone = [*ball_query(xyz, xyz[:, :9], [0.2], [4]), *ball_query(xyz, xyz[:, :9], [0.5], [16])]
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


def test_kernels_of_cuda_equal_torch() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.helpers.interpreted_kernels"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "equal\n", done.stderr


def test_each_is_one_operation_of_a_graph() -> None:
    xyz = clouds()[..., :3]
    graph = make_fx(lambda x: ball_query(x, gather_points(x, farthest_points(x, 12)), [0.3], [4])[0])(xyz)
    ours = [str(node.target) for node in graph.graph.nodes if "reldrop" in str(node.target)]
    assert ours == ["reldrop.farthest_points.default", "reldrop.ball_query.default"]
    torch.library.opcheck(torch.ops.reldrop.farthest_points, (xyz, 12))
    torch.library.opcheck(torch.ops.reldrop.ball_query, (xyz, xyz[:, :5], [0.2, 0.4], [3, 4]))


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

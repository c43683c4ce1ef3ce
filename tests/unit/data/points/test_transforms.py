"""What training does to clouds."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.data import PointTransform
from reldrop.data.points.transforms import draw_rotations, jitter, rotate, scale_and_shift
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator
from tests.helpers.clouds import memory_data, modelnet


@pytest.mark.parametrize("axis", ["x", "y", "z", "any"])
@pytest.mark.parametrize("channels", [3, 6])
def test_rotate_equals_a_loop(axis: str, channels: int) -> None:
    clouds = torch.randn(5, 7, channels, generator=generator(0, "clouds"))
    matrices = draw_rotations(5, axis, generator(0, "test"))
    expected = torch.empty_like(clouds)
    for index, points in enumerate(clouds):
        for row, point in enumerate(points):
            for start in range(0, channels, 3):
                expected[index, row, start : start + 3] = matrices[index] @ point[start : start + 3]
    assert torch.allclose(rotate(clouds, matrices), expected, atol=1e-6)
    identity = torch.eye(3).expand(5, 3, 3)
    assert torch.allclose(matrices @ matrices.mT, identity, atol=1e-6)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(5), atol=1e-6)
    if axis != "any":
        fixed = torch.eye(3)["xyz".index(axis)]
        assert torch.allclose(matrices @ fixed, fixed.expand(5, 3), atol=1e-6)


def test_a_turn_about_z_takes_x_to_y() -> None:
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    assert rotate(torch.tensor([[[1.0, 0, 0, 0, 1, 0]]]), quarter).tolist() == [[[0, 1, 0, -1, 0, 0]]]
    angles = draw_rotations(4000, "z", generator(0, "test"))
    turned = torch.atan2(angles[:, 1, 0], angles[:, 0, 0])
    assert turned.histc(8, -math.pi, math.pi).sub(500).abs().max() < 110  # 5 standard deviations


def test_random_rotations_are_uniform() -> None:
    matrices = draw_rotations(4000, "any", generator(0, "test"))
    for column in matrices.unbind(-1):  # where each axis is turned to: the z of a uniform direction is uniform
        assert column[:, 2].histc(8, -1, 1).sub(500).abs().max() < 110
    angle = ((matrices.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert angle.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.05)  # of the law (1 - cos t) / pi


def test_scale_shift_and_jitter_equal_a_loop_and_leave_normals() -> None:
    clouds = torch.randn(4, 6, 6, generator=generator(0, "clouds"))
    scale, shift = torch.tensor([1.0, 2, 0.5, 3]), torch.randn(4, 3, generator=generator(0, "shift"))
    noise = 4 * torch.randn(4, 6, 3, generator=generator(0, "noise"))
    assert noise.abs().max() > 5
    moved, noisy = scale_and_shift(clouds, scale, shift), jitter(clouds, noise, 0.1)
    for b in range(4):
        for p in range(6):
            for c in range(3):
                assert moved[b, p, c].item() == pytest.approx((clouds[b, p, c] * scale[b] + shift[b, c]).item())
                limited = min(max(noise[b, p, c].item(), -5), 5)
                assert noisy[b, p, c].item() == pytest.approx(clouds[b, p, c].item() + 0.1 * limited, abs=1e-6)
    assert torch.equal(moved[..., 3:], clouds[..., 3:])
    assert torch.equal(noisy[..., 3:], clouds[..., 3:])


def test_perturb_draws_for_each_cloud_within_the_ranges() -> None:
    perturbation = PointTransform(scale=(0.8, 1.25), shift=0.1)
    clouds = torch.zeros(3000, 2, 6)
    clouds[:, 1, 0] = clouds[:, :, 5] = 1
    before = clouds.clone()
    moved = memory_data(perturbation=perturbation).transform(clouds, generator(0, "test"))
    assert torch.equal(clouds, before)
    assert torch.equal(moved[..., 3:], clouds[..., 3:])
    shift, scale = moved[:, 0, :3], (moved[:, 1] - moved[:, 0])[:, 0]
    for values, low, high in (
        (scale, 0.8, 1.25),
        (shift[:, 0], -0.1, 0.1),
        (shift[:, 1], -0.1, 0.1),
        (shift[:, 2], -0.1, 0.1),
    ):
        assert low - 1e-6 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
    assert abs(torch.corrcoef(torch.cat([shift, scale[:, None]], 1).T) - torch.eye(4)).max() < 0.1


def test_perturb_rotates_then_scales_then_shifts_then_jitters() -> None:
    clouds = torch.randn(5, 7, 6, generator=generator(0, "clouds"))
    draws = generator(3, "test")
    expected = rotate(clouds, draw_rotations(5, "y", draws))
    numbers = torch.rand(5, 4, generator=draws)
    expected = scale_and_shift(expected, 0.5 + 1.5 * numbers[:, 0], (2 * numbers[:, 1:] - 1) * 0.3)
    noise = torch.empty(5, 7, 3).normal_(
        generator=torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
    )
    expected = jitter(expected, noise, 0.02)
    result = PointTransform((0.5, 2), 0.3, "y", 0.02)(clouds, generator(3, "test"))
    assert torch.allclose(result, expected, atol=1e-6)
    assert PointTransform()(clouds, generator(0, "test")) is clouds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": [1.25, 0.8]}, r"scale=\[1.25, 0.8\] must be two factors"),
        ({"scale": [0, 1]}, r"scale=\[0, 1\] must be above 0 at index 0"),
        ({"scale": 0.8}, "scale=0.8 must be a list or null"),
        ({"shift": -0.1}, "shift=-0.1 must be at least 0"),
        ({"jitter": math.nan}, "jitter=nan must be a finite number"),
        ({"rotate": "up"}, "rotate='up' must be 'x', 'y', 'z' or 'any' or null"),
        ({"points": 1}, "points=1 must be at least 2"),
        ({"points": 2.5}, "points=2.5 must be a whole number"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
        ({"subset": 13}, "subset=13 must be a whole number of clouds from 1 to the 12 there are"),
        ({"test_subset": 0}, "test_subset=0 must be at least 1"),
        ({"validation": 1.0}, "validation=1.0 must be below 1"),
        ({"classes": ["a", "d"]}, "classes=d is none of the classes of .*mini, which are a, big_b, c"),
    ],
)
def test_settings_out_of_range_are_explained_before_files_are_read(
    mini: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReldropError, match=message):
        modelnet(mini, **settings)
    assert not (mini.parent / "cache").exists()

"""Augmentation."""

import pytest
import torch
from torch import Tensor

from reldrop.augmentation import RandomPointDropout, RelDrop, RelDropPoint
from reldrop.utils.errors import ReldropError
from tests.helpers.point_networks import clouds, small


def test_reldrop_point_equals_a_loop() -> None:
    inputs, targets = clouds(dtype=torch.float32), torch.arange(3)
    occlude = RelDropPoint(alpha=0.5, beta=0.4)
    found, classes = occlude(inputs, targets, lambda rows: inputs[rows, :, 2], torch.Generator().manual_seed(1))
    assert torch.equal(classes, targets)
    draws = torch.Generator().manual_seed(1)
    torch.rand(3, generator=draws)  # the coins
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
    noise = torch.rand(3, 80, generator=own)
    dropped = 0
    for b in range(3):
        heights = inputs[b, :, 2]
        for i in range(80):
            scaled = (heights[i] - heights.min()) / (heights.max() - heights.min())
            drop = bool(0.5 * noise[b, i] + 0.5 * scaled >= 0.6)
            dropped += drop
            assert torch.equal(found[b, i], torch.zeros(6) if drop else inputs[b, i])
    assert 10 < dropped < 200


def test_random_point_dropout_equals_a_loop() -> None:
    inputs, targets = clouds(4, dtype=torch.float32), torch.arange(4)
    found, _ = RandomPointDropout(max_ratio=0.8)(inputs, targets, None, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    torch.rand(4, generator=draws)  # the coins
    ratio, noise = 0.8 * torch.rand(4, 1, generator=draws), torch.rand(4, 80, generator=draws)
    for b in range(4):
        for i in range(80):
            assert torch.equal(found[b, i], inputs[b, 0] if noise[b, i] <= ratio[b] else inputs[b, i])


def test_the_law_of_random_point_dropout() -> None:
    inputs = clouds(2000, 100, 3, torch.float32)
    mask = RandomPointDropout().mask(inputs, None, torch.Generator().manual_seed(0))
    share = mask.double().mean(1)
    assert abs(share.mean() - 0.875 / 2) < 0.02
    assert share.max() > 0.8
    assert share.min() < 0.05


def test_only_chosen_clouds_are_attributed() -> None:
    inputs = clouds(40)
    seen: list[int] = []

    def relevance(rows: Tensor) -> Tensor:
        seen.extend(rows.tolist())
        return inputs[rows, :, 0]

    mask = RelDropPoint(probability=0.5).mask(inputs, relevance, torch.Generator().manual_seed(0))
    assert 10 < len(seen) < 30
    assert mask.any(1).nonzero()[:, 0].tolist() == seen


def test_reldrop_in_a_loop_of_ones_own() -> None:
    model = small().float()
    reldrop = RelDrop(model, "point", beta=0.6)
    inputs = clouds(dtype=torch.float32)
    occluded = reldrop(inputs, torch.arange(3))
    assert 0 < (occluded != inputs).any(-1).double().mean() < 1


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: RelDropPoint(alpha=1.5), "alpha=1.5 must be at most 1"),
        (lambda: RelDropPoint(beta=-1), "beta=-1 must be at least 0"),
        (lambda: RandomPointDropout(max_ratio=2), "max_ratio=2 must be at most 1"),
        (lambda: RandomPointDropout(fill="last"), "fill='last' must be 'mean', 'noise' or 'first'"),
    ],
)
def test_wrong_settings(build: object, names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        build()

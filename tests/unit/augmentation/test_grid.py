"""Occlusion on the coarse grid of a transformer's patches."""

import pytest
import torch

from reldrop.attribution import GradientLRP
from reldrop.augmentation import RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel
from reldrop.utils.errors import ReldropError
from tests.helpers.transformers import images, small


@pytest.mark.parametrize("kind", [RelDropBlock, RelDropPatch, RelDropPixel, RandomErasing])
def test_occlusion_runs_on_transformers(kind: type) -> None:
    model, (inputs, targets) = small(), images()
    draws = torch.Generator().manual_seed(0)
    occlude = kind(probability=1.0)
    occluded, _ = occlude(inputs, targets, lambda rows: GradientLRP()(model, inputs[rows], targets[rows]), draws)
    assert 0 < (occluded != inputs).any(1).double().mean() < 1


@pytest.mark.parametrize("kind", [RelDropBlock, RelDropPatch, RelDropPixel, RandomErasing])
def test_cells_are_occluded_as_a_whole(kind: type) -> None:
    inputs, _ = images(20)
    draws = torch.Generator().manual_seed(0)
    mask = kind(probability=1.0, cell=4).mask(inputs, lambda rows: inputs[rows].sum(1), draws)
    cells = mask.unflatten(1, (4, 4)).unflatten(3, (4, 4)).transpose(2, 3).flatten(3)
    assert torch.equal(cells.all(-1), cells.any(-1))
    assert cells.any()


def test_the_most_relevant_cell_is_the_center() -> None:
    maps = torch.zeros(1, 16, 16)
    maps[0, 9, 5] = 5.0  # one strong pixel against
    maps[0, 12:16, 0:4] = 1.0  # a cell that has more in all
    occlude = RelDropBlock(probability=1.0, scale=(1 / 16, 1 / 16), ratio=1.0, cell=4)
    inputs = torch.randn(1, 3, 16, 16)
    mask = occlude.mask(inputs, lambda rows: maps[rows], torch.Generator().manual_seed(0))
    expected = torch.zeros(1, 16, 16, dtype=torch.bool)
    expected[0, 12:16, 0:4] = True
    assert torch.equal(mask, expected)


def test_cells_that_do_not_fit() -> None:
    with pytest.raises(ReldropError, match="cell=5 must divide the sides of images"):
        RelDropBlock(probability=1.0, cell=5)(*images(), lambda rows: images()[0][rows].sum(1))

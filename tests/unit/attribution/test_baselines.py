"""Baselines."""

import pytest
import torch
from torch import nn

from reldrop.attribution import CenterPrior
from reldrop.utils.errors import ReldropError


def test_the_center_is_where_it_is(tiny: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps = CenterPrior()(tiny, batch[0][..., :12], batch[1])  # 16 rows, 12 columns
    assert maps.shape == (6, 16, 12)
    assert torch.equal(maps, maps.flip(1))
    assert torch.equal(maps, maps.flip(2))
    assert maps[0, 7, 5] == maps.max()
    assert (maps[0, 7, :6].diff() > 0).all()
    torch.testing.assert_close(maps[0, 3, 0] / maps[0, 3, 5], maps[0, 7, 0] / maps[0, 7, 5])
    clouds = torch.randn(3, 50, 6, generator=torch.Generator().manual_seed(0))
    near = (clouds[..., :3] - clouds[..., :3].mean(1, keepdim=True)).norm(dim=-1)
    found = CenterPrior()(tiny, clouds, batch[1][:3])
    assert torch.equal(found.argsort(descending=True), near.argsort())
    moved = clouds.clone()
    moved[..., :3] = 3 * moved[..., :3] + 5
    torch.testing.assert_close(CenterPrior()(tiny, moved, batch[1][:3]), found)
    with pytest.raises(ReldropError, match="width=0 must be above 0"):
        CenterPrior(width=0)

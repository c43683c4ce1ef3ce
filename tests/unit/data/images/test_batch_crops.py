"""Crop and flip of a batch against a plain loop over its images."""

import pytest
import torch
from torch.nn import functional

from reldrop.data.images.batch_crops import crop_and_flip, draw_crops


@pytest.mark.parametrize(("shape", "padding"), [((9, 3, 8, 8), 2), ((5, 1, 6, 4), 1), ((7, 3, 8, 8), 0)])
@pytest.mark.parametrize("flip", [True, False])
def test_equals_a_loop_over_the_images(shape: tuple[int, ...], padding: int, flip: bool) -> None:
    images = torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    crops = draw_crops(len(images), padding, flip, torch.Generator().manual_seed(1))
    height, width = shape[2:]
    expected = []
    for image, top, left, flipped in zip(images, crops.top, crops.left, crops.flipped, strict=True):
        crop = functional.pad(image, (padding,) * 4)[:, top : top + height, left : left + width]
        expected.append(crop.flip(-1) if flipped else crop)

    result = crop_and_flip(images, crops, padding)

    assert result.dtype == torch.uint8
    assert torch.equal(result, torch.stack(expected))


def test_draws_cover_their_range_evenly() -> None:
    crops = draw_crops(9000, padding=4, flip=True, generator=torch.Generator().manual_seed(0))
    for offsets in (crops.top, crops.left):
        assert offsets.bincount(minlength=9).sub(1000).abs().max() < 150  # 5 standard deviations
        assert len(offsets.bincount()) == 9
    assert abs(crops.flipped.float().mean() - 0.5) < 0.03
    assert abs(torch.corrcoef(torch.stack([crops.top.float(), crops.left.float()]))[0, 1]) < 0.06


def test_no_padding_and_no_flip_change_nothing() -> None:
    images = torch.randint(256, (4, 3, 5, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    crops = draw_crops(4, padding=0, flip=False, generator=torch.Generator().manual_seed(1))
    assert torch.equal(crop_and_flip(images, crops, 0), images)

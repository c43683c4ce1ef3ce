"""The smallest augmentations of one's own."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from reldrop.augmentation import Augmentation, ImageOcclusion
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Fraction


class Brighten(Augmentation):
    kind = "images"

    def __call__(self, inputs, targets, relevance=None, generator=None, shard=None):
        return inputs + 1, targets


@dataclass(kw_only=True)
class AboveQuantile(ImageOcclusion):
    """Pixels whose relevance is above a quantile."""

    quantile: Fraction = 0.75

    def make_mask(self, maps: Tensor) -> Tensor:
        return maps > maps.flatten(1).quantile(self.quantile, 1)[:, None, None]


def test_an_augmentation_of_ones_own() -> None:
    inputs, targets = torch.randn(3, 3, 8, 8), torch.arange(3)
    found, classes = Brighten()(inputs, targets)
    assert torch.equal(found, inputs + 1)
    assert classes is targets
    assert not Brighten.needs_relevance


def test_an_occlusion_of_ones_own() -> None:
    inputs, targets = torch.randn(20, 3, 8, 8), torch.arange(20)
    occlude = AboveQuantile(quantile=0.5, fill=7)
    found, _ = occlude(inputs, targets, lambda rows: inputs[rows, 0], torch.Generator().manual_seed(0))
    hidden = (found == 7).all(1)
    assert set(hidden.sum((1, 2)).tolist()) == {0, 32}
    for image, shown, mask in zip(inputs, found, hidden, strict=True):
        assert torch.equal(shown[:, ~mask], image[:, ~mask])
        assert not mask.any() or image[0][mask].min() > image[0][~mask].max()


def test_its_settings_are_checked() -> None:
    with pytest.raises(ReldropError, match="quantile=2 must be at most 1"):
        AboveQuantile(quantile=2)
    with pytest.raises(ReldropError, match="cell=0 must be at least 1"):
        AboveQuantile(cell=0)

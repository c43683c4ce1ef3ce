"""An attribution of one's own."""

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import Attribution
from reldrop.utils.errors import ReldropError


class Brightness(Attribution):
    def __call__(self, model, inputs, targets, generator=None):
        return inputs.sum(1)


class PerChannel(Attribution):
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: object = None) -> Tensor:
        return inputs


def test_an_attribution_of_ones_own() -> None:
    assert not Brightness.conserves
    Brightness().check(nn.Identity(), torch.zeros(1, 3, 4, 5))


def test_a_wrong_shape_is_refused_before_training() -> None:
    with pytest.raises(
        ReldropError, match=r"PerChannel returns relevance of shape \(1, 3, 4, 5\); must be \(1, 4, 5\)"
    ):
        PerChannel().check(nn.Identity(), torch.zeros(1, 3, 4, 5))

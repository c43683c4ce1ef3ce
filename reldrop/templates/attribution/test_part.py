"""python -m pytest test_my_part.py"""

import torch
from my_part import MyPart

from reldrop.attribution import InputGradient
from reldrop.backbones import timm_model
from reldrop.training.contracts import check_attribution

INPUTS, TARGETS = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])


def test_it_keeps_the_promises_of_an_attribution() -> None:
    check_attribution(MyPart(), timm_model("resnet_tiny", num_classes=10, size=16), INPUTS, TARGETS)


def test_without_noise_it_is_the_gradient() -> None:
    model = timm_model("resnet_tiny", num_classes=10, size=16)
    assert torch.allclose(MyPart(noise=0)(model, INPUTS, TARGETS), InputGradient()(model, INPUTS, TARGETS))

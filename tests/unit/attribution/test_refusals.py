"""Refusals."""

import pytest
import timm
import torch
from torch import nn

from reldrop.attribution import GradientLRP, ZennitLRP
from reldrop.utils.errors import ReldropError
from tests.helpers.user_networks import plain


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def broken(model: nn.Module) -> nn.Module:
    nn.init.constant_(next(model.parameters()), float("nan"))
    return model


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "named"),
    [
        (plain, image(2, 3, 16, 16), [0, 10], "classes from 0 to 9"),
        (plain, image(2, 3, 16, 16), [-1, 0], "classes from 0 to 9"),
        (plain, image(2, 16), [0, 1], r"\(2, 16\) .* no images"),
        (plain, torch.zeros(2, 3, 16, 16, dtype=torch.uint8), [0, 1], "uint8 .* no images"),
        (lambda: broken(plain()), image(2, 3, 16, 16), [0, 1], "not finite"),
        (lambda: nn.Sequential(nn.Conv2d(3, 10, 3)), image(1, 3, 16, 16), [0], r"\(B, K\)"),
        (lambda: timm.create_model("resnet18", features_only=True), image(1, 3, 32, 32), [0], "a list"),
    ],
)
def test_bad_input(model: object, inputs: torch.Tensor, targets: list[int], named: str) -> None:
    with pytest.raises(ReldropError, match=named):
        GradientLRP()(model(), inputs, torch.tensor(targets))


@pytest.mark.parametrize(
    "build",
    [
        lambda: GradientLRP(epsilon=-1.0),
        lambda: GradientLRP(epsilon=float("nan")),
        lambda: GradientLRP(conv_rule="alphabeta"),
        lambda: GradientLRP(input_rule="zbox"),
        lambda: ZennitLRP("no_such_composite"),
        lambda: ZennitLRP(canonizer="keras"),
        lambda: ZennitLRP("epsilon_gamma_box", options={"hight": 1}),
    ],
)
def test_wrong_settings(build: object) -> None:
    with pytest.raises(ReldropError):
        build()

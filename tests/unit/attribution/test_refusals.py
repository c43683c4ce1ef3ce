"""Refusals."""

import pytest
import torch
from torch import nn

from reldrop.attribution import GradientLRP, ZennitLRP
from reldrop.utils.errors import ReldropError
from tests.helpers.networks import timm_model


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head((x * torch.sigmoid(x)).mean((2, 3)))


class _InPlace(nn.Module):
    """Reads a tensor after an in-place ReLU has changed it: the graph alone does not show that."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.act(x)
        return self.head((x + y).mean((2, 3)))


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x).mean((2, 3)) if x.sum() > 0 else self.stem(-x).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: timm_model("seresnet18"), "layer1.0.se.gate"),
        (lambda: timm_model("swin_tiny_patch4_window7_224"), "softmax (Softmax)"),
        (lambda: timm_model("resnet18", act_layer="silu"), "act1"),
        (lambda: timm_model("resnet18", norm_layer="groupnorm"), "bn1"),
        (_Gated, "sigmoid"),
        (_InPlace, "does not reproduce the output of _InPlace"),
        (_Branching, "_Branching cannot be traced"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), "not a single convolution"),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            "module 2 (BatchNorm2d)",
        ),
    ],
)
def test_refuses_what_it_cannot_treat_rightly(model: object, names: str) -> None:
    network = model()
    size = 224 if "Transformer" in type(network).__name__ else 32
    with pytest.raises(ReldropError) as error:
        GradientLRP().check(network, torch.randn(1, 3, size, size))
    assert names in str(error.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GradientLRP(epsilon=-1.0),
        lambda: GradientLRP(epsilon=float("nan")),
        lambda: GradientLRP(conv_rule="gamma"),
        lambda: GradientLRP(input_rule="zbox"),
        lambda: ZennitLRP("no_such_composite"),
        lambda: ZennitLRP(canonizer="keras"),
        lambda: ZennitLRP("epsilon_gamma_box", options={"hight": 1}),
    ],
)
def test_wrong_settings(build: object) -> None:
    with pytest.raises(ReldropError):
        build()

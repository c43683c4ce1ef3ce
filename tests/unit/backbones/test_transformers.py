"""Transformers."""

from typing import Any

import pytest
import timm
import torch

from reldrop.attribution import GradientLRP
from reldrop.backbones import vit
from reldrop.utils.errors import ReldropError


def test_backbone() -> None:
    model = vit("vit_micro", num_classes=7, size=32)
    assert model.patch_embed.patch_size == (4, 4)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    model = vit("vit_tiny_patch16_224", num_classes=3, size=32, patch=4)
    width, patch, tokens = 192, 4 * 4 * 3, 8 * 8 + 1
    blocks = 12 * (12 * width**2 + 13 * width)  # norms, queries to values, projection, two layers of the MLP
    rest = patch * width + width + width + tokens * width + 2 * width + 3 * width + 3
    assert sum(p.numel() for p in model.parameters()) == blocks + rest == 5_361_411
    full = vit("deit_tiny_patch16_224", num_classes=1000)
    assert sum(p.numel() for p in full.parameters()) == sum(
        p.numel() for p in timm.create_model("deit_tiny_patch16_224").parameters()
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"name": "vit_huge_patch99"}, "name=vit_huge_patch99 is not known to timm"),
        ({"name": "resnet18"}, "name=resnet18 cannot be built for images"),
        ({"name": "swin_tiny_patch4_window7_224"}, "SwinTransformer"),
        ({"name": "vit_micro", "size": 32, "patch": 5}, "patch=5 must divide the 32 pixels"),
        ({"name": "vit_tiny_patch16_224", "weights": "/no/such/file.pt"}, "does not exist"),
    ],
)
def test_wrong_settings(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        vit(**{"num_classes": 10, **options})
    with pytest.raises(ReldropError, match="attention='lrp' must be 'attnlrp' or 'cplrp'"):
        GradientLRP(attention="lrp")

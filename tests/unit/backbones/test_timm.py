"""Networks of timm."""

from typing import Any

import pytest
import timm
import torch

from reldrop.attribution import GradientLRP
from reldrop.backbones import timm_model
from reldrop.utils.errors import ReldropError


def test_backbone() -> None:
    model = timm_model("vit_micro", num_classes=7, size=32)
    assert model.patch_embed.patch_size == (4, 4)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    model = timm_model("vit_tiny_patch16_224", num_classes=3, size=32, patch=4)
    width, patch, tokens = 192, 4 * 4 * 3, 8 * 8 + 1
    blocks = 12 * (12 * width**2 + 13 * width)  # norms, queries to values, projection, two layers of the MLP
    rest = patch * width + width + width + tokens * width + 2 * width + 3 * width + 3
    assert sum(p.numel() for p in model.parameters()) == blocks + rest == 5_361_411
    full = timm_model("deit_tiny_patch16_224", num_classes=1000)
    assert sum(p.numel() for p in full.parameters()) == sum(
        p.numel() for p in timm.create_model("deit_tiny_patch16_224").parameters()
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"name": "vit_huge_patch99"}, "name=vit_huge_patch99 is not known to timm"),
        ({"name": "vgg11"}, "name=vgg11 cannot be built for images of 224 pixels"),
        (
            {"name": "swin_tiny_patch4_window7_224"},
            "SwinTransformer; it must be a ResNet or a plain vision transformer",
        ),
        ({"name": "mobilenetv3_small_050"}, "MobileNetV3; it must be a ResNet or a plain vision transformer"),
        ({"name": "resnet18", "patch": 4}, "patch=4 is for vision transformers; resnet18 is a ResNet"),
        ({"name": "resnet_tiny", "patch": 4}, "patch=4 is for vision transformers; resnet_tiny is a ResNet"),
        ({"name": "vit_micro", "stem": "cifar"}, "stem=cifar is for ResNets; vit_micro is a vision transformer"),
        ({"name": "vit_micro", "size": 32, "patch": 5}, "patch=5 must divide the 32 pixels"),
        ({"name": "vit_tiny_patch16_224", "weights": "/no/such/file.pt"}, "does not exist"),
    ],
)
def test_wrong_settings(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        timm_model(**{"num_classes": 10, **options})
    with pytest.raises(ReldropError, match="attention='lrp' must be 'attnlrp' or 'cplrp'"):
        GradientLRP(attention="lrp")

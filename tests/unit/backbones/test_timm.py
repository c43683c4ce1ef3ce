"""Networks of timm."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from reldrop.attribution import GradientLRP
from reldrop.backbones import timm_model
from reldrop.backbones.weights import classifiers
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
    ("name", "size", "options"),
    [
        ("convnext_atto", 32, {"drop_path": 0.1}),
        ("mobilenetv3_small_050", 32, {}),
        ("mixer_s32_224", 64, {}),
        ("swin_tiny_patch4_window7_224", 56, {}),
        ("deit_tiny_distilled_patch16_224", 32, {}),
        ("levit_128s", 64, {}),
    ],
)
def test_any_classifier(tmp_path: Path, name: str, size: int, options: dict[str, Any]) -> None:
    chosen = {"num_classes": 5, "channels": 1, "size": size, **options}
    model = timm_model(name, **chosen)
    assert model.training
    assert model(torch.randn(2, 1, size, size)).shape == (2, 5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    fresh = timm_model(name, **chosen, weights=str(tmp_path / "weights.pt"))
    heads = {id(value) for layer in classifiers(fresh) for value in layer.parameters()}
    assert heads
    same = {key: torch.equal(value, fresh.get_parameter(key)) for key, value in model.named_parameters()}
    assert not any(
        same[key] for key, value in fresh.named_parameters() if id(value) in heads and key.endswith("weight")
    )
    assert all(same[key] for key, value in fresh.named_parameters() if id(value) not in heads)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"name": "vit_huge_patch99"}, "name=vit_huge_patch99 is not known to timm"),
        (
            {"name": "resnetv2_50", "size": 8, "drop_path": 0.1, "stem": "cifar"},
            "stem=cifar is for ResNets; resnetv2_50",
        ),
        ({"name": "mixnet_s", "patch": 4}, "patch=4 is for networks on patches of one size; mixnet_s is none"),
        (
            {"name": "mixer_s32_224", "patch": 8},
            "^name=mixer_s32_224 cannot be built for .* patch_size=8: .*multiple values",
        ),
        (
            {"name": "convnext_atto", "size": 2},
            r"^name=convnext_atto does not take images of 2 pixels \(\w+: .*dataset.size",
        ),
        ({"name": "squeezenet"}, "name=squeezenet is not known to timm"),
        ({"name": "vgg11", "drop_path": 0.1}, "^name=vgg11 cannot be built for images .* drop_path_rate=0.1: "),
        ({"name": "resnet18", "patch": 4}, "patch=4 is for networks on patches of one size; resnet18 is none"),
        ({"name": "resnet_tiny", "patch": 4}, "patch=4 is for networks on patches of one size; resnet_tiny is none"),
        ({"name": "vit_micro", "stem": "cifar"}, "stem=cifar is for ResNets; vit_micro is a VisionTransformer"),
        ({"name": "vit_micro", "size": 32, "patch": 5}, "patch=5 must divide the 32 pixels"),
        ({"name": "vit_tiny_patch16_224", "weights": "/no/such/file.pt"}, "does not exist"),
    ],
)
def test_wrong_settings(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        timm_model(**{"num_classes": 10, **options})
    with pytest.raises(ReldropError, match="attention='lrp' must be 'attnlrp' or 'cplrp'"):
        GradientLRP(attention="lrp")

"""Preprocessing."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torchvision import transforms

from reldrop.evaluation.preprocessing import Preprocessing
from reldrop.utils.errors import ReldropError


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet18.tv_in1k", {}),
        ("resnet50.tv2_in1k", {}),
        ("resnet18.a1_in1k", {}),
        ("resnet18", {"crop_mode": "squash", "crop_pct": 0.9}),
        ("resnet18", {"crop_mode": "border", "crop_pct": 0.9}),
        ("resnet18", {"interpolation": "lanczos"}),
    ],
)
def test_own_preprocessing_is_that_of_timm(name: str, changes: dict[str, Any]) -> None:
    network = timm.create_model(name, pretrained_cfg_overlay=changes)
    own = Preprocessing.from_timm(network, name)
    theirs = create_transform(**resolve_model_data_config(network, use_test_size=True), is_training=False)
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(301, 420, 3), dtype=np.uint8))
    seen = torch.from_numpy(np.asarray(own.frame(image, own.size)).transpose(2, 0, 1).copy())
    torch.testing.assert_close(own.normalize(seen[None])[0], theirs(image), rtol=0, atol=1e-6)


def test_standard_preprocessing_is_that_of_the_public_script() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = Preprocessing.center_crop(mean, std)
    theirs = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(333, 250, 3), dtype=np.uint8))
    seen = torch.from_numpy(np.asarray(ours.frame(image, ours.size)).transpose(2, 0, 1).copy())
    torch.testing.assert_close(ours.normalize(seen[None])[0], theirs(image), rtol=0, atol=1e-6)


def test_preprocessing_that_is_not_supported() -> None:
    network = timm.create_model("resnet18", pretrained_cfg_overlay={"test_input_size": (3, 224, 192)})
    with pytest.raises(ReldropError, match="takes 224x192 pixels"):
        Preprocessing.from_timm(network, "resnet18")


def test_preprocessing_in_words() -> None:
    mean_std = (0.5,) * 3, (0.5,) * 3
    assert Preprocessing.center_crop(*mean_std).description == "resize 256, center crop 224, bilinear"
    network = timm.create_model("resnet18.tv_in1k", pretrained_cfg_overlay={"crop_mode": "squash", "crop_pct": 0.9})
    assert Preprocessing.from_timm(network, "resnet18").description == "squash to 248, center crop 224, bilinear"

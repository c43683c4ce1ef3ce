"""From an image file to what a network takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from PIL import Image
from torch import Tensor, nn

from reldrop.data.images.crops import CenterCrop, CropFn
from reldrop.utils.errors import ReldropError

RESIZE, SIZE = 256, 224  # pixels: what ImageNet-A, -O and -R were published with
WORDS = {"center": "resize", "squash": "squash to", "border": "resize, with a border, to"}  # timm's modes of cropping


@dataclass(frozen=True)
class TimmCrop:
    """What timm shows a network of an image: its transforms but the last, which makes a tensor."""

    transforms: Sequence[Callable[[Image.Image], Image.Image]]

    def __call__(self, image: Image.Image, size: int) -> Image.Image:
        return reduce(lambda shown, transform: transform(shown), self.transforms, image.convert("RGB"))


@dataclass(frozen=True)
class Preprocessing:
    """What part of an image is seen, at what size, and how its values are scaled."""

    frame: CropFn  # makes a square of an image
    size: int  # side of the square, in pixels
    mean: Sequence[float]  # of each channel of images in [0, 1]
    std: Sequence[float]
    description: str  # of frame and size

    @classmethod
    def center_crop(
        cls, mean: Sequence[float], std: Sequence[float], size: int = SIZE, resize: int = RESIZE, mode: str = "bilinear"
    ) -> "Preprocessing":
        """Return the preprocessing that resizes the short side and crops the center; by default that of published figures."""
        return cls(CenterCrop(resize, mode), size, mean, std, f"resize {resize}, center crop {size}, {mode}")

    @classmethod
    def from_timm(cls, model: nn.Module, name: str) -> "Preprocessing":
        """Return what timm evaluates this network with, in its tables of results: at the test size, where it has one.

        Raises:
            ReldropError: for inputs that are not square.
        """
        from timm.data import create_transform, resolve_model_data_config  # timm takes seconds to import

        config = resolve_model_data_config(model, use_test_size=True)
        _, height, width = config["input_size"]
        if height != width:
            raise ReldropError(
                f"preprocessing=own: {name} takes {height}x{width} pixels, which is not supported; take preprocessing=standard"
            )
        frame = TimmCrop(create_transform(**config, is_training=False, use_prefetcher=True).transforms[:-1])
        how = f"{WORDS[config['crop_mode']]} {math.floor(height / config['crop_pct'])}"
        description = f"{how}, center crop {height}, {config['interpolation']}"
        return cls(frame, height, config["mean"], config["std"], description)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn images, uint8 (B, 3, size, size), into network inputs, float32."""
        mean, std = (torch.tensor(value, device=images.device)[:, None, None] for value in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

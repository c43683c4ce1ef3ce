"""From an image file to what a network takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from reldrop.data.images.crops import FILTERS, CenterCrop, CropFn
from reldrop.utils.errors import ReldropError

RESIZE, SIZE = 256, 224  # pixels: what ImageNet-A, -O and -R were published with


@dataclass(frozen=True)
class Squash:
    """Resize both sides to `resize` pixels, whatever the shape, then take a square from the center.

    Attributes:
        resize: at least the side of the square.
        interpolation: bilinear or bicubic, both antialiased.
    """

    resize: int
    interpolation: str

    def __call__(self, image: Image.Image, size: int) -> Image.Image:
        resized = image.convert("RGB").resize((self.resize, self.resize), FILTERS[self.interpolation])
        start = round((self.resize - size) / 2)
        return resized.crop((start, start, start + size, start + size))


@dataclass(frozen=True)
class Preprocessing:
    """What part of an image is seen, at what size, and how its values are scaled.

    Attributes:
        frame: makes a square of an image.
        size: side of the square, in pixels.
        mean: of each channel of images in [0, 1].
        std: likewise.
    """

    frame: CropFn
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, images: Tensor) -> Tensor:
        """Turn images, uint8 (B, 3, size, size), into network inputs, float32."""
        mean, std = (torch.tensor(value, device=images.device)[:, None, None] for value in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

    def described(self) -> str:
        """Say it in words, e.g. "resize 256, center crop 224, bilinear"."""
        how = "squash to" if isinstance(self.frame, Squash) else "resize"
        return f"{how} {self.frame.resize}, center crop {self.size}, {self.frame.interpolation}"


def standard(mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    """Return that of the published figures: the short side to 256 pixels, bilinear, of which the central 224 are cut."""
    return Preprocessing(CenterCrop(RESIZE, "bilinear"), SIZE, tuple(mean), tuple(std))


def of_timm(model: nn.Module, name: str) -> Preprocessing:
    """Return what timm evaluates this network with, in its tables of results: at the test size, where it has one.

    Raises:
        ReldropError: for inputs that are not square or have borders, and unknown interpolations.
    """
    config = resolve_model_data_config(model, use_test_size=True)
    _, height, width = config["input_size"]
    known = height == width and config["interpolation"] in FILTERS and config["crop_mode"] in ("center", "squash")
    if not known or config["crop_pct"] > 1:
        raise ReldropError(
            f"preprocessing=own: {name} takes {height}x{width} pixels, crop_mode={config['crop_mode']}, "
            f"crop_pct={config['crop_pct']}, {config['interpolation']}, which is not supported; take preprocessing=standard"
        )
    kind = Squash if config["crop_mode"] == "squash" else CenterCrop
    frame = kind(math.floor(height / config["crop_pct"]), config["interpolation"])
    return Preprocessing(frame, height, tuple(config["mean"]), tuple(config["std"]))

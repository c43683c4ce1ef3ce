"""Random crop and horizontal flip of a whole batch at once, by indexing."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Crops:
    """Where to crop and whether to flip each of N images.

    Attributes:
        top, left: int64 (N,), first row and column of the crop in the padded image.
        flipped: bool (N,), whether the crop is mirrored left to right.
    """

    top: Tensor
    left: Tensor
    flipped: Tensor

    def __getitem__(self, index: slice | Tensor) -> "Crops":
        return Crops(self.top[index], self.left[index], self.flipped[index])

    def to(self, device: torch.device) -> "Crops":
        return Crops(self.top.to(device), self.left.to(device), self.flipped.to(device))


def draw_crops(count: int, padding: int, flip: bool, generator: torch.Generator) -> Crops:
    """Draw the crops of `count` images: each offset uniform in 0..2 `padding`, each flip with probability 0.5."""
    top, left = torch.randint(2 * padding + 1, (2, count), generator=generator)
    flipped = torch.rand(count, generator=generator) < 0.5
    return Crops(top, left, flipped if flip else torch.zeros_like(flipped))


def crop_and_flip(images: Tensor, crops: Crops, padding: int) -> Tensor:
    """Pad each image with `padding` black pixels a side, crop it back to its size, and flip it where asked.

    Args:
        images: (B, C, H, W), raw: a zero is black.
        crops: of the B images, on the same device.
        padding: the one that `crops` was drawn for.

    Returns:
        (B, C, H, W), of the type of `images`.
    """
    if padding == 0:
        return torch.where(crops.flipped[:, None, None, None], images.flip(-1), images)
    batch, channels, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding,) * 4)
    rows = crops.top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = crops.left[:, None] + torch.where(crops.flipped[:, None], columns.flip(0), columns)
    return padded[
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def crop_back(maps: Tensor, crops: Crops, padding: int, whole: Tensor) -> Tensor:
    """Put what belongs to crops back to where it was in the images: the way back of `crop_and_flip`.

    Args:
        maps: (B, H, W), of the crops.
        crops, padding: as there.
        whole: (B, H, W), kept where the crops do not reach.

    Returns:
        (B, H, W), of the type of `whole`.
    """
    batch, height, width = maps.shape
    device = maps.device
    rows = torch.arange(height, device=device) + padding - crops.top[:, None]  # in the crop, of each row of the image
    columns = torch.arange(width, device=device) + padding - crops.left[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    columns = torch.where(crops.flipped[:, None], width - 1 - columns, columns)
    index = torch.arange(batch, device=device)[:, None, None]
    found = maps[index, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
    return torch.where(inside, found.to(whole.dtype), whole)

"""Hiding parts of whole batches: what is put there, which blocks are hidden, and how a network is shown the rest.

A part that is hidden is a mask, bool (B, H, W) or (B, N), made when it is needed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.augmentation import Fill
from reldrop.augmentation.fill import Normalization
from reldrop.augmentation.masks import rectangles
from reldrop.metrics.occlusion import hits
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, uniform_of_items
from reldrop.utils.tensors import channel_axis

Predict = Callable[[Tensor], Tensor]  # inputs (B, ...) -> logits (B, classes)
Hide = Callable[[Tensor], Tensor]  # mask, bool (B, H, W) or (B, N) -> inputs (B, ...) without what is masked

FILLS = {"images": ("mean", "zero", "blur", "noise"), "points": ("first", "zero", "remove")}  # the default first


class Occluder:
    """Hides parts of images or point clouds.

    Args:
        fill: what is put there. On images, "mean" of the data set, "zero" (black), "blur" (the image without detail, a
            Gaussian of an eighth of its side) or "noise" (standard normal, another for each image, always the same); on point
            clouds, "first" (a copy of the first point), "zero" (the origin, without normal), or "remove": nothing, the cloud
            gets smaller, down to one point. None for mean or first.
        inputs: "images" or "points".
        normalization: (mean, std) per channel of images in [0, 1].

    Raises:
        ReldropError: for another fill.
    """

    def __init__(self, fill: str | None, inputs: str, normalization: Normalization | None = None) -> None:
        self.kind = fill = fill or FILLS[inputs][0]
        if fill not in FILLS[inputs]:
            raise ReldropError(f"fill={fill} is not for {inputs}; choose one of {', '.join(FILLS[inputs])}")
        if fill in ("mean", "zero", "first"):
            on_points = inputs == "points"
            self._fill = Fill(0.0 if on_points and fill == "zero" else fill, normalization)

    def masks_per_batch(self, batch_size: int, limit: int) -> int:
        """Return how many masks of a batch fit into `limit` inputs, at least 1; clouds that get smaller differ in size."""
        return 1 if self.kind == "remove" else max(1, limit // batch_size)

    def start(self, inputs: Tensor, items: Tensor) -> Hide:
        """Return a function that hides what is masked, bool (B, H, W) or (B, N), in copies of the inputs.

        Args:
            inputs: (B, C, H, W) or (B, N, C), normalized.
            items: int64 (B,), numbers of the samples, which noise depends on.

        Returns:
            The function. To remove points, a mask must hide as many of one cloud as of another.
        """
        if self.kind == "remove":
            return lambda mask: _without(inputs, mask)
        substitute, axis = self._substitute(inputs, items), channel_axis(inputs)
        return lambda mask: torch.where(mask.unsqueeze(axis), substitute, inputs)

    def _substitute(self, inputs: Tensor, items: Tensor) -> Tensor:
        if self.kind == "blur":
            from torchvision.transforms.v2.functional import gaussian_blur  # takes a while to import

            sigma = max(inputs.shape[-2:]) / 8
            return gaussian_blur(inputs, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma] * 2)
        if self.kind == "noise":
            uniform = uniform_of_items(items, inputs[0].numel(), derive_seed(0, "noise"))
            normal = torch.special.ndtri(uniform.clamp(min=2.0**-53))
            return normal.view(inputs.shape).to(inputs.dtype)
        return self._fill.for_batch(inputs)


def predict_masked(
    predict: Predict, hide: Hide, targets: Tensor, masks: Iterable[Tensor], masks_per_batch: int
) -> tuple[Tensor, Tensor]:
    """Show a network a batch of B samples under each of several masks.

    Args:
        predict: the network.
        hide: see `Occluder.start`.
        targets: int64 (B,), the true classes.
        masks: M of them, each bool (B, H, W) or (B, N); made as they are needed.
        masks_per_batch: masks under which the network is shown the batch at the same time.

    Returns:
        Whether the true class is predicted, bool (B, M), and its softmax probability, float64 (B, M).
    """
    shown, masks = [], iter(masks)
    while some := list(islice(masks, masks_per_batch)):
        of_some = hits(predict(torch.cat([hide(mask) for mask in some])), targets.repeat(len(some)))
        shown.append([values.view(len(some), -1) for values in of_some])
    correct, probability = (torch.cat(parts).T for parts in zip(*shown, strict=True))
    return correct, probability


def block_size(area: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a block of that share of an image (H, W), in its proportions, at least a pixel."""
    height, width = (min(side, max(1, round(math.sqrt(area) * side))) for side in size)
    return height, width


def relevant_block(relevance: Tensor, block: tuple[int, int]) -> Tensor:
    """Return the mask (B, H, W) of the block with the largest sum of relevance (B, H, W); of equal ones the first."""
    sums = F.avg_pool2d(relevance[:, None].double(), block, stride=1)[:, 0]
    place = sums.flatten(1).argmax(1)
    return _blocks(place // sums.shape[-1], place % sums.shape[-1], block, relevance.shape)


def random_block(items: Tensor, block: tuple[int, int], shape: Sequence[int], draw: int, seed: int = 0) -> Tensor:
    """Return masks (B, H, W) of a block anywhere inside, which depend on `draw`, the seed and the sample's number alone."""
    uniform = uniform_of_items(items, 2, derive_seed(seed, "random block", draw, *block))
    top, left = ((uniform[:, axis] * (shape[1 + axis] - block[axis] + 1)).long() for axis in (0, 1))
    return _blocks(top, left, block, shape)


def central_block(block: tuple[int, int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Return the mask (B, H, W) of a block in the center."""
    top, left = (torch.full(shape[:1], (shape[1 + axis] - block[axis]) // 2, device=device) for axis in (0, 1))
    return _blocks(top, left, block, shape)


def _blocks(top: Tensor, left: Tensor, block: tuple[int, int], shape: Sequence[int]) -> Tensor:
    heights, widths = (torch.full_like(top, side)[:, None] for side in block)
    return rectangles(top[:, None], left[:, None], heights, widths, (shape[1], shape[2]))


def _without(clouds: Tensor, mask: Tensor) -> Tensor:
    """Return the points (B, N, C) that are not masked, in their order; where all are, the first."""
    mask = mask.clone()
    mask[:, 0] &= ~mask.all(1)
    kept = (~mask).nonzero()
    return clouds[kept[:, 0], kept[:, 1]].view(len(clouds), -1, clouds.shape[2])

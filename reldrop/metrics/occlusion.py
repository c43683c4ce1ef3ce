"""Occlusion: what a network still recognizes when parts of its input are hidden.

Everything works on whole batches. A part that is hidden is a mask, bool (B, H, W) or (B, N), made when it is needed from the
ranks of pixels or points; `Occluder` hides it, and `outcomes` shows the network several of them at once.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.augmentation import Fill
from reldrop.augmentation.fill import Normalization
from reldrop.augmentation.masks import rectangles
from reldrop.metrics.accuracy import ranks
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, uniform_of_items
from reldrop.utils.tensors import channel_axis

Predict = Callable[[Tensor], Tensor]  # inputs (B, ...) -> logits (B, classes)
Hide = Callable[[Tensor], Tensor]  # mask, bool (B, H, W) or (B, N) -> inputs (B, ...) without what is masked

FILLS = {"images": ("mean", "zero", "blur", "noise"), "points": ("first", "zero", "remove")}


class Occluder:
    """Hides parts of images or point clouds.

    Args:
        fill: what is put there. On images, "mean" of the data set, "zero" (black), "blur" (the image without detail, a
            Gaussian of an eighth of its side) or "noise" (standard normal, another for each image, always the same); on point
            clouds, "first" (a copy of the first point), "zero" (the origin, without normal), or "remove": nothing, the cloud
            gets smaller, down to one point.
        inputs: "images" or "points".
        normalization: (mean, std) per channel of images in [0, 1].

    Raises:
        ReldropError: for another fill.
    """

    def __init__(self, fill: str, inputs: str, normalization: Normalization | None = None) -> None:
        if fill not in FILLS[inputs]:
            raise ReldropError(f"fill={fill} is not for {inputs}; choose one of {', '.join(FILLS[inputs])}")
        self.kind = fill
        if fill in ("mean", "zero", "first"):
            on_points = inputs == "points"
            self._fill = Fill(0.0 if on_points and fill == "zero" else fill, normalization)

    def at_once(self, batch_size: int, chunk: int) -> int:
        """Return how many masks of a batch fit into `chunk` inputs, at least 1; clouds that get smaller differ in size."""
        return 1 if self.kind == "remove" else max(1, chunk // batch_size)

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
        everything = torch.ones_like(inputs.select(channel_axis(inputs), 0), dtype=torch.bool)
        return self._fill(inputs, everything)


def outcomes(
    predict: Predict, hide: Hide, targets: Tensor, masks: Iterable[Tensor], at_once: int
) -> tuple[Tensor, Tensor]:
    """Show a network a batch of B samples under each of several masks.

    Args:
        predict: the network.
        hide: see `Occluder.start`.
        targets: int64 (B,), the true classes.
        masks: M of them, each bool (B, H, W) or (B, N); made as they are needed.
        at_once: masks under which the network is shown the batch at the same time.

    Returns:
        Whether the true class is predicted, bool (B, M), and its softmax probability, float64 (B, M).
    """
    shown, masks = [], iter(masks)
    while some := list(islice(masks, at_once)):
        hits = outcome(predict(torch.cat([hide(mask) for mask in some])), targets.repeat(len(some)))
        shown.append([values.view(len(some), -1) for values in hits])
    correct, probability = (torch.cat(parts).T for parts in zip(*shown, strict=True))
    return correct, probability


def outcome(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the true class is predicted, bool (B,), and its softmax probability, float64 (B,)."""
    return ranks(logits, targets) == 0, logits.double().softmax(1).gather(1, targets[:, None])[:, 0]


# ---- which parts are hidden -----------------------------------------------------------------------------------------


def feature_ranks(values: Tensor) -> Tensor:
    """Return the place of each pixel or point in the order of `values` (B, ...), the largest first: int64 (B, P).

    Of equal ones, the first comes first.
    """
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def random_ranks(items: Tensor, features: int, draw: int, seed: int = 0) -> Tensor:
    """Return random orders, int64 (B, features), which depend on `draw`, the seed and the sample's number alone."""
    return feature_ranks(uniform_of_items(items, features, derive_seed(seed, "random order", draw)))


def step_counts(features: int, steps: int) -> list[int]:
    """Return how many features are hidden after 1 to `steps` equal steps; in the end all.

    Raises:
        ReldropError: there are not that many features.
    """
    if not 1 <= steps <= features:
        raise ReldropError(
            f"steps={steps} must be a whole number from 1 to the {features} pixels or points of a sample"
        )
    return [round(features * step / steps) for step in range(1, steps + 1)]


def most_first(order: Tensor, counts: Sequence[int], shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield the masks (B, *shape) of the first so many features of an order, their places (B, P), for each count."""
    for count in counts:
        yield (order < count).view(shape)


def least_first(order: Tensor, counts: Sequence[int], shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield the masks (B, *shape) of the last so many features of an order, their places (B, P), for each count."""
    for count in counts:
        yield (order >= order.shape[1] - count).view(shape)


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
    """Return the mask (B, H, W) of a block in the middle."""
    top, left = (torch.full(shape[:1], (shape[1 + axis] - block[axis]) // 2, device=device) for axis in (0, 1))
    return _blocks(top, left, block, shape)


def nearness_ranks(xyz: Tensor, center: Tensor) -> Tensor:
    """Return the place of each point (B, N, 3) in the order of distance from a point (B, 3): int64 (B, N).

    The first so many are the ball around it that holds them.
    """
    return feature_ranks(-(xyz - center[:, None]).square().sum(-1))


def _blocks(top: Tensor, left: Tensor, block: tuple[int, int], shape: Sequence[int]) -> Tensor:
    heights, widths = (torch.full_like(top, side)[:, None] for side in block)
    return rectangles(top[:, None], left[:, None], heights, widths, (shape[1], shape[2]))


def _without(clouds: Tensor, mask: Tensor) -> Tensor:
    """Return the points (B, N, C) that are not masked, in their order; where all are, the first."""
    mask = mask.clone()
    mask[:, 0] &= ~mask.all(1)
    kept = (~mask).nonzero()
    return clouds[kept[:, 0], kept[:, 1]].view(len(clouds), -1, clouds.shape[2])


# ---- what is made of it ---------------------------------------------------------------------------------------------


def area_under(curve: Tensor) -> Tensor:
    """Return the area under curves (..., T + 1) at equal steps, by trapezoids, divided by T: in the unit of the curve."""
    return torch.trapezoid(curve.double(), dim=-1) / (curve.shape[-1] - 1)

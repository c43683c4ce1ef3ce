"""Relevance at a lower price: at a layer instead of the input, and of a smaller image. An extension of this project."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution.evaluation import evaluation_mode
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import unknown

if TYPE_CHECKING:
    from reldrop.attribution.forward import Forward
    from reldrop.attribution.plan import Call

logger = logging.getLogger("reldrop")

DEEPEST = 0.75  # share of the depth that `auto` goes at most: behind it, maps are coarse and class tokens hold all
SMALLEST = 8  # rows and columns that the map of `auto` has at least
HALVED_FROM = 64  # pixels that the sides of images have at least which resolution `auto` halves


@dataclass(frozen=True)
class Layer:
    """A module whose output is a map.

    Attributes:
        name: of the module.
        call: what makes the output.
        depth: share of the network's calls up to it, in (0, 1].
        size: (h, w) of the map.
        complete: whether all relevance passes through it, so that none goes around it.
    """

    name: str
    call: "Call"
    depth: float
    size: tuple[int, int]
    complete: bool


def layers(forward: "Forward", image: tuple[int, int]) -> list[Layer]:
    """Return the layers of a network, from the input to the output, of a pass of one image (H, W) that was recorded.

    Of modules with the same output, only the outermost one is there.
    """
    calls = forward.plan.calls
    index = {id(call): place for place, call in enumerate(calls)}
    earliest = [min((-1 if maker is None else index[id(maker)] for maker in call.makers), default=-1) for call in calls]
    bypass = [len(calls)] * (len(calls) + 1)  # the earliest call that any later one reads
    for place in reversed(range(len(calls))):
        bypass[place] = min(bypass[place + 1], earliest[place])
    found: dict[int, Layer] = {}
    for name, output in sorted(forward.outputs.items(), key=lambda each: -each[0].count(".")):
        call, size = forward.maker(forward.current(output)), map_size(output.shape, image)
        if call is not None and size is not None and not forward.reads_input(output):
            place = index[id(call)]
            found[place] = Layer(name, call, (place + 1) / len(calls), size, bypass[place + 1] >= place)
    return [found[place] for place in sorted(found)]


def choose(forward: "Forward", until: str | float, image: tuple[int, int]) -> Layer | None:
    """Return the layer at which relevance is read; None for the input, where `auto` finds no layer that is fit.

    Args:
        forward: a recorded pass of one image.
        until: the name of a module; a share of the depth in (0, 1), for the last layer up to it that all relevance passes
            through; or "auto", for the last such layer in the first three quarters that has at least 8 rows and columns.
        image: (H, W).

    Raises:
        ReldropError: there is no such layer, or it has no map.
    """
    known = layers(forward, image)
    if until == "auto" or not isinstance(until, str):
        deepest, smallest = (DEEPEST, SMALLEST) if isinstance(until, str) else (until, 1)
        fit = [each for each in known if each.complete and each.depth <= deepest and min(each.size) >= smallest]
        if not fit and until != "auto":
            raise ReldropError(
                f"attribution.until={until}: no layer of this network comes that early; set a larger share"
            )
        return fit[-1] if fit else None
    output = forward.outputs.get(until)
    maker = None if output is None else forward.maker(forward.current(output))
    for layer in known:
        if layer.name == until or layer.call is maker:
            return layer
    names = [each.name for each in known]
    what = "has no map of the image" if until in forward.outputs else "is no module of this network"
    raise ReldropError(unknown(f"attribution.until={until} {what}", until, names))


def map_size(shape: Sequence[int], image: tuple[int, int]) -> tuple[int, int] | None:
    """Return (h, w) of the map in what a module makes of one image (H, W); None if there is none.

    Maps are (1, C, h, w), (1, h, w, C), or tokens (1, T, C), those of patches last, in the proportions of the image.
    """
    if len(shape) == 3 and shape[0] == 1:
        width = math.isqrt(shape[1] * image[1] // image[0])
        height = width * image[0] // image[1]
        return (height, width) if min(height, width) > 1 else None
    if len(shape) == 4 and shape[0] == 1:
        for height, width in (shape[2:], shape[1:3]):
            if min(height, width) > 1 and abs(height * image[1] - width * image[0]) <= max(image):
                return height, width
    return None


def as_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return values at the output of a layer, whose map has `size`, summed over channels: (B, h, w)."""
    if values.ndim == 3:
        return values[:, values.shape[1] - math.prod(size) :].sum(2).unflatten(1, size)
    return values.sum(1 if tuple(values.shape[2:]) == size else 3)


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (B, h, w) at the size (H, W) of the image, bilinear, with about the same sum."""
    if maps.shape[1:] == size:
        return maps
    large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return large * (maps[0].numel() / math.prod(size))


def reduced(images: Tensor, resolution: float | str) -> Tensor:
    """Return images (B, C, H, W) with their sides multiplied by `resolution`, each pixel the mean of those it stands for.

    Args:
        images: (B, C, H, W).
        resolution: in (0, 1], or "auto": a half where both sides have at least 64 pixels, else 1.

    Raises:
        ReldropError: they are no images.
    """
    if resolution == 1 or images.ndim != 4:
        if images.ndim != 4 and resolution not in (1, "auto"):
            raise ReldropError(f"attribution.resolution={resolution} is for images; set it to 1")
        return images
    if resolution == "auto":
        resolution = 0.5 if min(images.shape[2:]) >= HALVED_FROM else 1.0
    size = [max(1, round(side * resolution)) for side in images.shape[2:]]
    return images if size == list(images.shape[2:]) else F.interpolate(images, size, mode="area")


def takes(model: nn.Module, images: Tensor, smaller: Tensor) -> bool:
    """Return whether a network takes smaller images as well; one that does not is named in a warning."""
    try:
        with torch.no_grad(), evaluation_mode(model), torch.random.fork_rng():
            model(smaller[:1].clone())
    except Exception as error:  # whatever a network raises
        logger.warning(
            "%s takes no images of %s pixels (%s); its relevance is that of images of %s, whatever attribution.resolution is",
            type(model).__name__,
            "x".join(map(str, smaller.shape[2:])),
            first_line(error),
            "x".join(map(str, images.shape[2:])),
        )
        return False
    return True

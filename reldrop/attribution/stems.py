"""The stems of a network: its first linear layers, behind which relevance is shared out to pixels or points."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution.steps import Step, refusal

Spread = Callable[..., Tensor]  # relevance behind a stem, and the values that the stem read -> relevance of the input


@dataclass(frozen=True)
class Stems:
    """What `find_stems` found.

    Attributes:
        spread: name of each stem -> how relevance behind it is shared out.
        convolution: the stem of a network on images.
        on_points: whether inputs are points (B, N, C), not images.
        bypassed: whether later layers read the input as well.
    """

    spread: dict[str, Spread]
    convolution: nn.Conv2d | None
    on_points: bool
    bypassed: bool


def find_stems(steps: dict[str, Step], source: str, network: str, stabilizer: float) -> Stems:
    """Return the first linear layers: one convolution, or, on point clouds, all those that read nothing but the points.

    Args:
        steps: of the network, by name, in order.
        source: name of the input.
        network: what to call it in messages.
        stabilizer: epsilon of the Flat rule.

    Raises:
        ReldropError: the network begins otherwise.
    """
    carrying = [step for step in steps.values() if step.kind != "choice"]
    first = carrying[0]
    layer = next(iter(first.layers.values()), None)
    if type(layer) is nn.Conv2d and [step for step in carrying if source in step.inputs] == [first]:
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise refusal(f"the first convolution pads with {layer.padding_mode!r}, {layer.padding!r}")
        spread = partial(spread_over_field, stem=layer, stabilizer=stabilizer)
        return Stems({first.name: spread}, layer, False, False)
    raw, later = _reached_by_points(steps, source)
    stems = [name for name in raw if steps[name].kind == "linear"]
    if not stems or any(steps[name].kind not in ("linear", "select", "gate") for name in raw):
        raise refusal(f"the first layer of {network} is not a single convolution, nor a layer on points (B, N, C)")
    return Stems(dict.fromkeys(stems, spread_over_points), None, True, bool(later))


def _reached_by_points(steps: dict[str, Step], source: str) -> tuple[list[str], list[str]]:
    """Names of the steps whose inputs are nothing but points, and of the others that read points all the same."""
    points = {source}  # what holds input values, only selected or aligned
    raw, later = [], []
    for step in steps.values():
        if step.kind == "choice":
            continue
        carrying = [name for name in step.inputs if name == source or steps[name].kind != "choice"]
        if step.kind == "gate":
            carrying = carrying[:1]
        if all(name in points for name in carrying):
            raw.append(step.name)
            if step.kind in ("select", "gate"):
                points.add(step.name)
        elif any(name in points for name in carrying):
            later.append(step.name)
    return raw, later


def spread_over_field(relevance: Tensor, arguments: list[Tensor], stem: nn.Conv2d, stabilizer: float) -> Tensor:
    """Flat rule: share the relevance (B, H', W') of each stem output evenly among the inputs of its receptive field.

    Channels are already summed, and all input channels get the same: a convolution of ones with one channel does both
    the counting and, transposed, the spreading.
    """
    size = arguments[0].shape[-2:]
    channels = stem.in_channels // stem.groups
    ones = relevance.new_ones(1, 1, *stem.kernel_size)
    placement = {"stride": stem.stride, "padding": stem.padding, "dilation": stem.dilation}
    count = channels * F.conv2d(relevance.new_ones(1, 1, *size), ones, **placement)
    share = channels * relevance[:, None] / (count + stabilizer)
    return torch.nn.grad.conv2d_input((len(relevance), 1, *size), ones, share, **placement)[:, 0]


def spread_over_points(relevance: Tensor, arguments: list[Tensor]) -> Tensor:
    """Flat rule on points: all of the relevance goes to the point that a stem output was computed from.

    That is (B, N) itself for a layer on all points. For one on neighborhoods it is (B, S, K), and a neighbor gets
    what all centroids that saw it have for it.
    """
    if relevance.ndim == 2:
        return relevance
    points, _, index = arguments
    return relevance.new_zeros(points.shape[:2]).scatter_add_(1, index.flatten(1), relevance.flatten(1))

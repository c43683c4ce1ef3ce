"""From relevance behind the first linear maps of a network to relevance of its input.

Before its first linear map, a value is the input itself, only moved (padded, cropped, resized, normalized, cut into
patches). There the gradient is the relevance already, so that it goes the same way back, whatever the values are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reldrop.attribution import forms
from reldrop.attribution.rules import MOVES, names
from reldrop.utils.errors import ReldropError

PLACES = MOVES | {"interpolate", "avg_pool2d", "adaptive_avg_pool2d"}  # moves, by weights that do not depend on values
JOINS = names("cat concat concatenate")
SCALES = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "__add__",
        "__radd__",
        "__sub__",
        "__mul__",
        "__rmul__",
        "__truediv__",
        "batch_norm",
        "align",
    ]
)


def stem(name: str, function: Callable[..., Tensor], x: Tensor, real: Tensor | None, arguments: tuple, kwargs: dict,
         weight: Tensor, settings: Any) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """Return what takes relevance (B, K, ...) behind a first linear map to what it read, shaped like `x`.

    Args:
        name: of the linear map.
        function: the linear map, of (input, weight, bias, *arguments, **kwargs).
        x: what it reads.
        real: 0 where `x` is padding, 1 elsewhere; None without padding. Padding gets no relevance.
        arguments: behind the bias, of the function.
        kwargs: of the function.
        weight: of the map.
        settings: the `GradientLRP`.

    Raises:
        ReldropError: `input_rule=flat` where the map reads the whole input at once.
    """
    if name == "grouped_linear":
        return _to_neighbors(x, arguments[1])
    if settings.input_rule == "flat":
        if name == "linear" and x.ndim == 2:
            raise ReldropError(
                "the first layer reads all of the input at once, so that input_rule=flat would give each value the same; "
                "set attribution.input_rule=epsilon"
            )
        if name == "linear":
            return lambda relevance: (relevance.sum(-1, keepdim=True) / x.shape[-1]).expand(x.shape)
        return flat(function, x, real, arguments, kwargs, weight, settings.stabilizer)

    def compute(u: Tensor, weight: Tensor, bias: None) -> Tensor:
        return function(u, weight, bias, *arguments, **kwargs)

    kept = x.detach()
    if settings.input_rule == "wsquare":
        parts = [(torch.ones_like(kept) if real is None else real.expand(x.shape), weight.square())]
    else:
        present = torch.ones_like(kept) if real is None else real
        low, high = settings.low * present, settings.high * present
        parts = [(kept, weight), (-low, weight.clamp(min=0)), (-high, weight.clamp(max=0))]
    return lambda relevance: forms.relevance_of_parts(compute, parts, relevance, settings.stabilizer)


def flat(function: Callable[..., Tensor], x: Tensor, real: Tensor | None, arguments: tuple, kwargs: dict, weight: Tensor,
          stabilizer: float) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """Flat: evenly to all that a position reads (Lapuschkin et al. 2019); the arguments are those of `stem`.

    One channel does the counting and the spreading for all.
    """
    options = dict(zip(("stride", "padding", "dilation", "groups"), arguments, strict=False)) | kwargs | {"groups": 1}
    width = x.shape[1]  # every position is counted that often, which divides what it gets evenly among its channels
    seen = x.new_full((1, 1, *x.shape[2:]), width) if real is None else real[:, :1] * width
    ones = x.new_ones(1, 1, *weight.shape[2:])
    stabilizer *= width / weight.shape[1]

    def pull(relevance: Tensor) -> Tensor:
        behind = relevance.sum(1, keepdim=True)
        with torch.enable_grad():
            each = seen.to(behind.dtype).expand(len(behind), *seen.shape[1:]).detach().requires_grad_()
            count = function(each, ones.to(behind.dtype), None, **options)
            share = behind / (count.detach() + stabilizer)
            (spread,) = torch.autograd.grad(count, each, share)
        return (spread if real is None else spread * real[:, :1]).expand(x.shape)

    return pull


def _to_neighbors(points: Tensor, index: Tensor) -> Callable[[Tensor], Tensor]:
    """Flat on neighborhoods: all to the point a neighbor is, what its centroid contributed to the difference as well."""

    def pull(relevance: Tensor) -> Tensor:
        behind = relevance.sum(-1)
        found = behind.new_zeros(points.shape[:2]).scatter_add_(1, index.flatten(1), behind.flatten(1))
        return (found / points.shape[-1])[..., None].expand(points.shape)

    return pull

"""Attribution by zennit, on a copy of the network: slow, independent of our own rules, and open to other composites."""

import copy
import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reldrop.attribution.base import Attribution
from reldrop.attribution.evaluation import logits_of
from reldrop.utils.errors import ReldropError
from reldrop.utils.tensors import channel_axis
from reldrop.utils.types import NonNegative, checked

_log = logging.getLogger(__name__)


@checked
class ZennitLRP(Attribution):
    """Any composite of zennit (Anders et al. 2021, https://arxiv.org/abs/2106.13200) by name, with any canonizer.

    The network is copied at each call, because zennit changes what it attributes: 1.0 replaces parameters, 0.5.1
    spoils the autocast cache.

    Args:
        composite: a name from `zennit.composites.COMPOSITES` (e.g. "epsilon_plus_flat"), or "epsilon_flat": the rules
            of GradientLRP with a Flat stem.
        canonizer: "timm" knows timm's and torchvision's residual blocks; "torchvision" knows torchvision's only, so
            that on a timm network relevance is copied to both branches of a block instead of split (as in the
            release); or "none".
        epsilon: of the Epsilon rule, where the composite has one; None for the composite's default.
        options: further arguments of the composite, e.g. {low: -2.5, high: 2.7} for "epsilon_gamma_box".
        output: "logits", or "log_softmax" for relevance that starts as one-hot behind a log-softmax, hence as one-hot minus
            probabilities at the logits (as in the release's networks on point clouds).

    On point clouds, hooks see modules only. Operations between them (differences of positions, maxima, products with
    matrices) pass relevance on as if it were a gradient, so it is not conserved where positions are subtracted or
    multiplied.

    Raises:
        ReldropError: for an unknown name or argument.
    """

    conserves = True

    def __init__(
        self,
        composite: str = "epsilon_flat",
        canonizer: Literal["timm", "torchvision", "none"] = "timm",
        epsilon: NonNegative | None = 1e-3,
        options: dict[str, Any] | None = None,
        output: Literal["logits", "log_softmax"] = "logits",
    ) -> None:
        self.output = output
        self._trusted = canonizer != "timm" or output != "logits" or not composite.startswith("epsilon")
        self.composite = _build_composite(composite, canonizer, epsilon, dict(options or {}))

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance (B, H, W) of images, or (B, N) of points, for classes (B,), in full precision."""
        twin = copy.deepcopy(model).eval().requires_grad_(False)
        for module in twin.modules():
            if hasattr(module, "plain"):  # see reldrop.backbones.point_layers
                module.plain = True
        x = inputs.detach().to(next(twin.parameters()).dtype).requires_grad_()
        with torch.autocast(inputs.device.type, enabled=False), torch.enable_grad(), self.composite.context(twin):
            scores = logits_of(twin(x))
            if self.output == "log_softmax":
                scores = scores.log_softmax(1)
            (relevance,) = torch.autograd.grad(scores, x, torch.zeros_like(scores).scatter_(1, targets[:, None], 1.0))
        relevance = relevance.sum(channel_axis(inputs))
        if not self._trusted:
            self._trusted = True  # said once
            total = float(relevance.flatten(1).sum(1).abs().nanmedian())
            if not 1e-3 < total < 1e3:
                _log.warning(
                    "attribution=zennit: relevance of %s sums to %.1e, where about 1 is meant: zennit has no rule for some of "
                    "what this network does, and its maps cannot be trusted",
                    type(model).__name__,
                    total,
                )
        return relevance


def _build_composite(name: str, canonizer: str, epsilon: float | None, options: dict[str, Any]) -> Any:
    from zennit.composites import COMPOSITES, SpecialFirstLayerMapComposite, layer_map_base
    from zennit.rules import Epsilon, Flat, Pass
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import BatchNorm, Convolution, Linear

    from reldrop.attribution.canonizer import ResidualCanonizer, timm_layer_map

    canonizers = {
        "timm": lambda: [ResidualCanonizer()],
        "torchvision": lambda: [ResNetCanonizer()],
        "none": list,
    }
    options["canonizers"] = canonizers[canonizer]()
    own_layers = timm_layer_map() if canonizer == "timm" else []
    if name == "epsilon_flat":
        rule = Epsilon(epsilon=1e-6 if epsilon is None else epsilon)
        return SpecialFirstLayerMapComposite(
            own_layers + layer_map_base() + [((Linear,), rule)], [((Convolution,), Flat())], **options
        )
    if name == "epsilon_flat_named":  # the release names all of these layers, one by one, and no activation
        rules = [((BatchNorm, nn.Dropout), Pass()), ((Linear,), Epsilon(epsilon=1e-6 if epsilon is None else epsilon))]
        return SpecialFirstLayerMapComposite(rules, [((Linear,), Flat())], **options)
    if name not in COMPOSITES:
        known = ", ".join(["epsilon_flat", *sorted(COMPOSITES)])
        raise ReldropError(f"composite={name} must be one of {known}")
    if epsilon is not None and name.startswith("epsilon"):
        options["epsilon"] = epsilon
    try:
        return COMPOSITES[name](layer_map=own_layers, **options)
    except TypeError as error:
        raise ReldropError(f"options={options} do not fit the composite {name!r}: {error}") from error

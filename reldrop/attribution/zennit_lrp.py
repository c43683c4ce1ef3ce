"""Attribution by zennit, on a copy of the network: as an oracle, for other composites, and as the release ran it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from reldrop.errors import ReldropError


class ZennitLRP:
    """Any zennit composite by name, with the canonizer of one's choice.

    The network is copied at each call, because zennit changes what it attributes (1.0 replaces parameters, 0.5.1
    spoils the autocast cache). So it follows the weights in training, at a price: this is the slow, independent way.

    Args:
        composite: a name from `zennit.composites.COMPOSITES` (e.g. "epsilon_plus_flat"), or "epsilon_flat": the rules
            of GradientLRP with a Flat stem.
        canonizer: "timm" knows timm's and torchvision's residual blocks; "torchvision" knows torchvision's only, so
            that on a timm network relevance is copied to both branches of a block instead of split (as in the
            release); or "none".
        epsilon: of the Epsilon rule, where the composite has one; None for the composite's default.
        options: further arguments of the composite, e.g. {low: -2.5, high: 2.7} for "epsilon_gamma_box".

    Raises:
        ReldropError: for an unknown name or argument.
    """

    conserves = True

    def __init__(
        self,
        composite: str = "epsilon_flat",
        canonizer: str = "timm",
        epsilon: float | None = 1e-3,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.composite = _build_composite(composite, canonizer, epsilon, dict(options or {}))

    def check(self, model: nn.Module, inputs: Tensor) -> None:
        """Raise what a call with `inputs` (1, C, H, W) would raise."""
        self(model, inputs, torch.zeros(len(inputs), dtype=torch.long, device=inputs.device))

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance (B, H, W) of `inputs` (B, C, H, W) for the classes `targets` (B,), in full precision."""
        twin = copy.deepcopy(model).eval().requires_grad_(False)
        x = inputs.detach().to(next(twin.parameters()).dtype).requires_grad_()
        with torch.autocast(inputs.device.type, enabled=False), torch.enable_grad(), self.composite.context(twin):
            logits = twin(x)
            (relevance,) = torch.autograd.grad(logits, x, torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0))
        return relevance.sum(1)


def _build_composite(name: str, canonizer: str, epsilon: float | None, options: dict[str, Any]) -> Any:
    from zennit.composites import COMPOSITES, SpecialFirstLayerMapComposite, layer_map_base
    from zennit.rules import Epsilon, Flat
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import Convolution, Linear

    from reldrop.attribution.canonizer import ResidualCanonizer, timm_layer_map

    canonizers = {
        "timm": lambda: [ResidualCanonizer()],
        "torchvision": lambda: [ResNetCanonizer()],
        "none": list,
    }
    if canonizer not in canonizers:
        raise ReldropError(f"attribution.canonizer is {canonizer!r}; it must be one of {', '.join(canonizers)}")
    options["canonizers"] = canonizers[canonizer]()
    own_layers = timm_layer_map() if canonizer == "timm" else []
    if name == "epsilon_flat":
        rule = Epsilon(epsilon=1e-6 if epsilon is None else epsilon)
        return SpecialFirstLayerMapComposite(
            own_layers + layer_map_base() + [((Linear,), rule)], [((Convolution,), Flat())], **options
        )
    if name not in COMPOSITES:
        known = ", ".join(["epsilon_flat", *sorted(COMPOSITES)])
        raise ReldropError(f"attribution.composite is {name!r}; it must be one of {known}")
    if epsilon is not None and name.startswith("epsilon"):
        options["epsilon"] = epsilon
    try:
        return COMPOSITES[name](layer_map=own_layers, **options)
    except TypeError as error:
        raise ReldropError(f"attribution.options do not fit the composite {name!r}: {error}") from error

"""Attributions of captum (Kokhlikyan et al. 2020, https://arxiv.org/abs/2009.07896), by one adapter."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution.base import Attribution
from reldrop.attribution.evaluation import bare, evaluation_mode
from reldrop.utils.errors import ReldropError
from reldrop.utils.tensors import channel_axis, positions
from reldrop.utils.text import unknown
from reldrop.utils.types import Text, checked


@checked
class Captum(Attribution):
    """Any attribution of captum that takes a model, inputs and a target, by its name. Needs the extra `captum`.

    On a copy of the network: several of them hook into it, or change it.

    Args:
        method: a class of captum.attr, e.g. "IntegratedGradients", "Saliency", "LayerGradCam".
        layer: the module that a layer attribution looks at, by its name in the network; its map is enlarged to the input.
        options: arguments of the call, e.g. {n_steps: 20}.

    Raises:
        ReldropError: captum is not installed, or has no such method; or a layer is missing, unknown, or not for this method.
    """

    def __init__(self, method: Text, layer: Text | None = None, options: dict[str, Any] | None = None) -> None:
        try:
            from captum import attr
        except ImportError:
            raise ReldropError("attribution=captum needs the package captum: pip install reldrop[captum]") from None
        known = [name for name in attr.__all__ if isinstance(getattr(attr, name), type)]
        if method not in known:
            raise ReldropError(unknown(f"method={method} is no attribution of captum", method, known))
        self.method, self.layer, self.options = getattr(attr, method), layer, dict(options or {})
        self.takes_layer = issubclass(self.method, attr.LayerAttribution)
        if self.takes_layer != (layer is not None):
            needed = "needs the name of a module" if self.takes_layer else "must be null"
            raise ReldropError(f"layer={layer} of attribution.method={method} {needed}")

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return relevance, float32: (B, H, W) of images (B, C, H, W), (B, N) of points (B, N, C), for classes (B,)."""
        network = copy.deepcopy(bare(model)).requires_grad_(False)
        x = inputs.detach().clone().requires_grad_()
        with torch.autocast(inputs.device.type, enabled=False), torch.enable_grad(), evaluation_mode(network):
            arguments = (network, self._module(network)) if self.takes_layer else (network,)
            found = self.method(*arguments).attribute(x, target=targets, **self.options)
        if not isinstance(found, Tensor):
            raise ReldropError(f"attribution.method={self.method.__name__} returns no single tensor; choose another")
        axis = channel_axis(inputs)
        found = found.detach().sum(axis).to(torch.promote_types(found.dtype, torch.float32))
        if found.shape != positions(inputs) and axis == 1:
            found = F.interpolate(found[:, None], inputs.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        return found

    def _module(self, network: nn.Module) -> nn.Module:
        modules = dict(network.named_modules())
        if self.layer not in modules:
            raise ReldropError(
                unknown(f"layer={self.layer} is no module of {type(network).__name__}", self.layer, modules)
            )
        return modules[self.layer]

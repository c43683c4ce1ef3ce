"""Which parts of an input made a network choose a class: relevance(model, inputs, targets).

Every attribution is called as `attribution(model, inputs, targets, generator=None)`, takes (B, C, H, W) to (B, H, W),
and leaves the model, its gradients, the global random state and autocast as it found them. `check(model, inputs)`
raises before training what a call would raise. `conserves` says whether the relevance of an image is meant to sum to 1.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from reldrop.attribution.controls import InputGradient, Random
from reldrop.attribution.gradient import GradientLRP
from reldrop.attribution.zennit_lrp import ZennitLRP

__all__ = ["Attribution", "GradientLRP", "InputGradient", "Random", "ZennitLRP", "relevance"]


class Attribution(Protocol):
    """What augmentation, training and evaluation ask of an attribution."""

    conserves: bool

    def check(self, model: nn.Module, inputs: Tensor) -> None: ...

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor: ...


_default = GradientLRP()


def relevance(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the relevance (B, H, W) of `inputs` (B, C, H, W) for the classes `targets` (B,), by GradientLRP."""
    return _default(model, inputs, targets)

"""Which parts of an input made a network choose a class: relevance(model, inputs, targets).

Every attribution is called as `attribution(model, inputs, targets, generator=None)`, takes images (B, C, H, W) to
(B, H, W) and point clouds (B, N, C) to (B, N), and leaves the model, its gradients, the global random state and
autocast as it found them. `check(model, inputs)` raises before training what a call would raise. `conserves` says
whether the relevance of a sample is meant to sum to 1.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from reldrop.attribution.baselines import CenterPrior, InputGradient, RandomRelevance
from reldrop.attribution.gradient import GradientLRP
from reldrop.attribution.recycled import Recycled
from reldrop.attribution.zennit import ReleaseLRP, ZennitLRP

__all__ = [
    "Attribution",
    "CenterPrior",
    "GradientLRP",
    "InputGradient",
    "RandomRelevance",
    "Recycled",
    "ReleaseLRP",
    "ZennitLRP",
    "relevance",
]


class Attribution(Protocol):
    """What augmentation, training and evaluation ask of an attribution."""

    conserves: bool

    def check(self, model: nn.Module, inputs: Tensor) -> None: ...

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor: ...


_default = GradientLRP()


def relevance(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the relevance (B, H, W) of images (B, C, H, W), or (B, N) of points (B, N, C), for classes (B,): GradientLRP."""
    return _default(model, inputs, targets)

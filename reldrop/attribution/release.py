"""Attribution as the release computes it."""

import torch
from torch import Tensor, nn

from reldrop.attribution.base import Attribution
from reldrop.attribution.zennit import ZennitLRP
from reldrop.utils.tensors import channel_axis


class ReleaseLRP(Attribution):
    """What the release computes, quirks included.

    On images: Epsilon (1e-3) behind a Flat stem with torchvision's canonizer, so that relevance is copied, not split, at
    the residual sums of timm's networks. On point clouds: its composite of named layers for PointNet++ MSG: Flat on the
    first layer of the first scale, Epsilon (1e-6) on all others, merged batch norms, everything between them treated
    as a gradient, and relevance that starts behind the log-softmax.
    """

    conserves = True

    def __init__(self) -> None:
        self._images = ZennitLRP("epsilon_flat", "torchvision", 1e-3)
        self._points = ZennitLRP("epsilon_flat_named", "torchvision", 1e-6, output="log_softmax")

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance (B, H, W) of images, or (B, N) of points, for classes (B,), in full precision."""
        return (self._images if channel_axis(inputs) == 1 else self._points)(model, inputs, targets)

"""Training-time augmentations: `inputs, targets = augmentation(inputs, targets, relevance, generator, shard)`."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reldrop.attribution import Attribution, GradientLRP
from reldrop.augmentation.base import Augmentation, NoAugmentation
from reldrop.augmentation.fill import Fill
from reldrop.augmentation.images import ImageOcclusion, RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel
from reldrop.augmentation.occlusion import Occlusion
from reldrop.augmentation.points import RandomPointDropout, RelDropPoint
from reldrop.utils.types import checked

__all__ = [
    "Augmentation",
    "Fill",
    "ImageOcclusion",
    "NoAugmentation",
    "Occlusion",
    "RandomErasing",
    "RandomPointDropout",
    "RelDrop",
    "RelDropBlock",
    "RelDropPatch",
    "RelDropPixel",
    "RelDropPoint",
]


@checked
class RelDrop:
    """RelDrop bound to a network, for a training loop of one's own: `inputs = reldrop(inputs, targets)`.

    Args:
        model: the network in training, not wrapped or compiled. Relevance is computed with its weights at each call.
        mode: "block", "patch" or "pixel" for images, "point" for point clouds.
        attribution: what computes relevance; GradientLRP by default.
        options: settings of RelDropBlock, RelDropPatch, RelDropPixel or RelDropPoint.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: Literal["block", "patch", "pixel", "point"] = "block",
        attribution: Attribution | None = None,
        **options: Any,
    ) -> None:
        modes = {"block": RelDropBlock, "patch": RelDropPatch, "pixel": RelDropPixel, "point": RelDropPoint}
        self.occlude = modes[mode](**options)
        self.attribute = partial(attribution or GradientLRP(), model)

    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a copy of normalized images (B, C, H, W), or clouds (B, N, C), partly occluded; targets (B,)."""
        return self.occlude(inputs, targets, lambda rows: self.attribute(inputs[rows], targets[rows]), generator)[0]

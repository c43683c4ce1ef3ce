"""Training-time augmentations: `inputs, targets = augmentation(inputs, targets, relevance, generator, shard)`."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from reldrop.attribution import (
    Attribution,
    CenterPrior,
    GradientLRP,
    InputGradient,
    RandomRelevance,
    ReleaseLRP,
    ZennitLRP,
)
from reldrop.attribution.evaluation import bare
from reldrop.augmentation.base import Augmentation, NoAugmentation
from reldrop.augmentation.fill import Fill
from reldrop.augmentation.images import ImageOcclusion, RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel
from reldrop.augmentation.occlusion import Occlusion
from reldrop.augmentation.points import RandomBall, RandomPointDropout, RelDropBall, RelDropPoint
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Fraction, checked

__all__ = [
    "Augmentation",
    "Fill",
    "ImageOcclusion",
    "NoAugmentation",
    "Occlusion",
    "RandomBall",
    "RandomErasing",
    "RandomPointDropout",
    "RelDrop",
    "RelDropBall",
    "RelDropBlock",
    "RelDropPatch",
    "RelDropPixel",
    "RelDropPoint",
]


ATTRIBUTIONS = {
    "gradient": GradientLRP,
    "zennit": ZennitLRP,
    "release": ReleaseLRP,
    "input_gradient": InputGradient,
    "random": RandomRelevance,
    "center": CenterPrior,
}
MODES = {
    "block": RelDropBlock,
    "patch": RelDropPatch,
    "pixel": RelDropPixel,
    "point": RelDropPoint,
    "ball": RelDropBall,
}


@checked
class RelDrop(nn.Module):
    """RelDrop bound to a network, for a training loop of one's own: `inputs = reldrop(inputs, targets)`.

    It has no parameters and no state. The network is not a submodule of it, so that it may be a submodule of what holds the
    network. A copy, or what a pickle gives back, holds a copy of the network, unless both are copied together.

    Args:
        model: the network in training, bare, compiled, or wrapped for several devices. Relevance is computed with its
            weights at each call.
        mode: "block", "patch" or "pixel" for images, "point" or "ball" for point clouds.
        attribution: what computes relevance: a name, for the default settings, or an object.
        probability: of a sample to be occluded, in [0, 1].
        options: other settings of RelDropBlock, RelDropPatch, RelDropPixel, RelDropPoint or RelDropBall.

    Raises:
        ReldropError: for a wrong setting, naming it.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: Literal["block", "patch", "pixel", "point", "ball"] = "block",
        attribution: Literal["gradient", "zennit", "release", "input_gradient", "random", "center"]
        | Attribution = "gradient",
        probability: Fraction = 0.5,
        **options: Any,
    ) -> None:
        super().__init__()
        self.occlude = MODES[mode](probability=probability, **options)
        self.name = attribution if isinstance(attribution, str) else None
        self.attribution = ATTRIBUTIONS[attribution]() if isinstance(attribution, str) else attribution
        object.__setattr__(self, "model", bare(model))  # not as a submodule

    def forward(self, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a copy of `inputs`, partly occluded; in evaluation mode, `inputs` themselves.

        Args:
            inputs: normalized images (B, C, H, W), or clouds (B, N, C), coordinates first.
            targets: classes, int64 (B,), or, for GradientLRP, probabilities (B, K), from which relevance starts in proportion.
            generator: on the CPU, of all draws; None for the global one.

        Raises:
            ReldropError: the attribution does not take this network, or these targets.
        """
        if not self.training:
            return inputs
        if targets.ndim == 2 and isinstance(self.attribution, InputGradient | ZennitLRP | ReleaseLRP):
            raise ReldropError(
                f"targets of shape {tuple(targets.shape)} are probabilities, which {type(self.attribution).__name__} does not "
                "take; give it classes (B,), or take attribution='gradient'"
            )

        def relevance(rows: Tensor) -> Tensor:
            return self.attribution(self.model, inputs[rows], targets[rows], generator)

        return self.occlude(inputs, targets, relevance, generator)[0]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle gets: an attribution given by name is made again, as it was."""
        return {**vars(self), "attribution": self.name or self.attribution}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.attribution = ATTRIBUTIONS[self.name]() if self.name else self.attribution

    def extra_repr(self) -> str:
        """Return what torch shows of it."""
        return f"{self.occlude}, {type(self.attribution).__name__}"

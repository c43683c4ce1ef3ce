"""An attribution of my own, e.g. SmoothGrad (Smilkov et al. 2017)."""

import torch
from torch import Tensor, nn

from reldrop.attribution import Attribution, InputGradient
from reldrop.utils.types import Count, NonNegative, checked


@checked
class MyPart(Attribution):
    """The mean of the absolute gradients at noisy copies of an input."""

    def __init__(self, samples: Count = 4, noise: NonNegative = 0.2) -> None:
        self.samples, self.noise, self.gradient = samples, noise, InputGradient()

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return relevance: (B, H, W) for images (B, C, H, W), (B, N) for points (B, N, C)."""
        draws = [torch.randn(inputs.shape, generator=generator).to(inputs.device) for _ in range(self.samples)]
        return sum(self.gradient(model, inputs + self.noise * draw, targets) for draw in draws) / self.samples

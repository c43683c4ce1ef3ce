"""Controls: attributions that RelDrop's are to be compared with."""

import torch
from torch import Tensor, nn

from reldrop.attribution.steps import evaluation_mode
from reldrop.layout import channel_axis, positions


class InputGradient:
    """Saliency: the absolute gradient of the target's logit, summed over channels (Simonyan et al. 2014)."""

    conserves = False

    def check(self, model: nn.Module, inputs: Tensor) -> None:
        """Every differentiable network will do."""

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the saliency (B, H, W) of images (B, C, H, W), or (B, N) of points (B, N, C), for classes (B,)."""
        x = inputs.detach().requires_grad_()
        # Weights cast for this pass must not be found again by the training forward.
        device = inputs.device.type
        enabled = torch.is_autocast_enabled(device)
        no_cache = torch.autocast(device, enabled=enabled, cache_enabled=False)
        with no_cache, torch.enable_grad(), evaluation_mode(model):
            score = model(x).gather(1, targets[:, None]).sum()
        (grad,) = torch.autograd.grad(score, x)
        return grad.abs().sum(channel_axis(inputs))


class Random:
    """Uniform random relevance: RelDrop with it occludes as much as with any other, but anywhere.

    Draws from the generator of the call, or from a generator of its own that starts at 0.
    """

    conserves = False

    def __init__(self) -> None:
        self._own = torch.Generator().manual_seed(0)

    def check(self, model: nn.Module, inputs: Tensor) -> None:
        """Nothing is asked of the network."""

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return values in [0, 1): (B, H, W) for images (B, C, H, W), (B, N) for points (B, N, C)."""
        return torch.rand(positions(inputs), generator=generator or self._own).to(inputs.device, non_blocking=True)

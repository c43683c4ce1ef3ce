"""Controls: attributions to compare those of RelDrop with."""

import torch
from torch import Tensor, nn

from reldrop.attribution.base import Attribution
from reldrop.attribution.evaluation import evaluation_mode, logits_of
from reldrop.utils.tensors import channel_axis, positions
from reldrop.utils.types import Positive, checked


class InputGradient(Attribution):
    """Saliency: the absolute gradient of the target's logit, summed over channels.

    Simonyan et al. 2014, https://arxiv.org/abs/1312.6034.
    """

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the saliency (B, H, W) of images (B, C, H, W), or (B, N) of points (B, N, C), for classes (B,)."""
        x = inputs.detach().requires_grad_()
        # Without the cache of autocast, the training forward does not reuse weights that were cast for this pass.
        device = inputs.device.type
        enabled = torch.is_autocast_enabled(device)
        no_cache = torch.autocast(device, enabled=enabled, cache_enabled=False)
        with no_cache, torch.enable_grad(), evaluation_mode(model):
            score = logits_of(model(x)).gather(1, targets[:, None]).sum()
        (grad,) = torch.autograd.grad(score, x)
        return grad.abs().sum(channel_axis(inputs))


class RandomRelevance(Attribution):
    """Uniform random relevance: RelDrop with it occludes as much as with any other, but anywhere.

    Draws from the generator of the call, or from a generator of its own that starts at 0.
    """

    def __init__(self) -> None:
        self._own = torch.Generator().manual_seed(0)

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return values in [0, 1): (B, H, W) for images (B, C, H, W), (B, N) for points (B, N, C)."""
        return torch.rand(positions(inputs), generator=generator or self._own).to(inputs.device, non_blocking=True)


@checked
class CenterPrior(Attribution):
    """A Gaussian in the center of the image, or of the cloud, which does not depend on the network or the values.

    Photographs have their subject in the center: compare region metrics with those of this prior, rather than with 0.

    Args:
        width: standard deviation of the Gaussian, as a share of the image's sides, or of a cloud's width, which is taken
            to be twice the root mean square distance from its centroid; above 0.

    Raises:
        ReldropError: for another width.
    """

    def __init__(self, width: Positive = 0.25) -> None:
        self.width = width

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return values in (0, 1]: (B, H, W) for images (B, C, H, W), (B, N) for points (B, N, C), coordinates first."""
        if channel_axis(inputs) == 2:
            points = inputs[..., :3] - inputs[..., :3].mean(1, keepdim=True)
            squares = points.square().sum(-1)
            squares = squares / (4 * squares.mean(1, keepdim=True)).clamp(min=torch.finfo(squares.dtype).tiny)
        else:
            offsets = [
                (2 * torch.arange(side, device=inputs.device) + 1 - side) / (2 * side) for side in inputs.shape[-2:]
            ]
            squares = (offsets[0].square()[:, None] + offsets[1].square()).expand(positions(inputs))
        return torch.exp(-squares / (2 * self.width**2))

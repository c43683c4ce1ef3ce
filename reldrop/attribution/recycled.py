"""An extension of our own, not the paper's method: relevance from the backward pass of training, for the next epoch."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution.gradient import GradientLRP
from reldrop.attribution.stems import flat
from reldrop.data.base import Batch
from reldrop.data.images.batch_crops import crop_and_flip, crop_back
from reldrop.data.images.dataset import ImageData
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator


class Recycled(GradientLRP):
    """Relevance without passes of its own: each training step leaves it in a `RelevanceCache`, for the next epoch.

    Where there is no training, in evaluations and figures, this is `GradientLRP` with its default settings.
    """

    def __init__(self) -> None:
        super().__init__()

    def cache(self, model: nn.Module, data: Any) -> "RelevanceCache":
        """Return an empty cache for the training of `model` on `data`.

        Raises:
            ReldropError: the images are not kept whole in memory, the network does not begin with one plain convolution, or
                `GradientLRP` does not cover it.
        """
        if not isinstance(data, ImageData) or not isinstance(data.train.images, Tensor):
            raise ReldropError(
                f"attribution=recycled keeps relevance for whole images in memory, which those of {data.name} are not; "
                "take attribution=gradient"
            )
        stem = self.stem(model, data.dummy_input().to(next(model.parameters())))
        return RelevanceCache(stem, data, self.stabilizer)

    def stem(self, model: nn.Module, inputs: Tensor) -> nn.Conv2d:
        """Return the one convolution that reads `inputs`."""
        _, _, forward = self.forward(model, inputs)
        reading = [call for call in forward.plan.calls if call.makers == [None]]
        weight = reading[0].parameters[0] if len(reading) == 1 and reading[0].stem else None
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.weight is weight and module.padding_mode == "zeros":
                return module
        raise ReldropError(
            f"attribution=recycled needs a network that begins with one plain convolution, which {type(model).__name__} does "
            "not; take attribution=gradient"
        )


class RelevanceCache:
    """Relevance of the N training images as their last visits left it, in the coordinates of the whole images.

    It is a hook of the training, see `reldrop.training.hooks.Hook`. In a training step, the loss has a gradient at the output
    h of the first convolution anyway. The relevance of h is -h dL/dh, summed over channels: what speaks for the right class,
    against all others, in the network before the step. The Flat rule distributes it to pixels. It belongs to a crop of the
    image with a part occluded; pixels outside the crop keep what they had.

    Args:
        stem: the first convolution of the network.
        data: whose training images are in memory.
        stabilizer: epsilon of the Flat rule.
    """

    def __init__(self, stem: nn.Conv2d, data: ImageData, stabilizer: float) -> None:
        self.stem, self.padding, self.stabilizer = stem, data.crop_padding, stabilizer
        images = data.train.images
        # Only the order within a map matters: each is scaled to a largest magnitude of 1, for which half precision will do.
        self.maps = images.new_zeros(len(images), *images.shape[2:], dtype=torch.float16)
        self.known = images.new_zeros(len(images), dtype=torch.bool)

    def get(self, batch: Batch, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the relevance, float32 (n, H, W), of rows of a batch as they are cropped; of unknown images, uniform noise.

        Args:
            batch: of training images.
            rows: int64 (n,), on the device of the data.
            generator: on the CPU, of the noise.
        """
        items = batch.items[rows]
        maps = crop_and_flip(self.maps[items, None], batch.crops[rows], self.padding)[:, 0].float()
        noise = torch.rand(maps.shape, device=maps.device, generator=device_generator(generator, maps.device))
        return torch.where(self.known[items, None, None], maps, noise)

    def before_step(self, trainer: Any, batch: Batch) -> None:
        """Learn from the next forward pass on the images of `batch`, and from the backward pass after it."""

        def forward(stem: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
            output.register_hook(partial(self._learn, batch, arguments[0].detach(), output.detach()))

        self._handle = self.stem.register_forward_hook(forward)

    def after_step(self, trainer: Any, output: Any) -> None:
        """Stop learning: what follows is no training."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the content of the cache."""
        return {"maps": self.maps, "known": self.known}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the content of another cache of the same images."""
        self.maps.copy_(state["maps"])
        self.known.copy_(state["known"])

    @torch.no_grad()
    def _learn(self, batch: Batch, inputs: Tensor, output: Tensor, grad: Tensor) -> None:
        relevance = -(output * grad).sum(1, dtype=torch.float32)
        placement = self.stem.stride, self.stem.padding, self.stem.dilation
        spread = flat(F.conv2d, inputs, None, placement, {}, self.stem.weight.detach(), self.stabilizer)
        maps = spread(relevance[:, None]).sum(1)
        largest = maps.abs().amax((1, 2), keepdim=True)
        scaled = torch.where(largest > 0, maps / largest, 0).half()
        before = self.maps[batch.items]
        self.maps[batch.items] = crop_back(scaled, batch.crops, self.padding, before)
        self.known[batch.items] |= (largest > 0)[:, 0, 0]

"""Occlusion in general: select samples, compute the relevance of these, mask, fill."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.base import Augmentation, Draws, Relevance
from reldrop.augmentation.fill import Fill, FillImage, FillPoint
from reldrop.distributed.sharding import Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator
from reldrop.utils.tensors import channel_axis, positions
from reldrop.utils.types import Fraction, check_values


@dataclass(kw_only=True)
class Occlusion(Augmentation):
    """Occludes each sample with some probability. A subclass says where, in `make_mask`, and what it draws, in `sample`.

    Settings are fields. Their annotations say what they may be, and they are checked here, for all subclasses.

    Args:
        probability: p in the paper, of a sample to be occluded, in [0, 1].
        fill: see `Fill`.

    Raises:
        ReldropError: for a wrong setting, naming it.
    """

    needs_relevance = True

    # These are settings of images, see `ImageOcclusion`.
    decide_per, normalization, cell = "image", None, 1

    probability: Fraction = 0.5
    fill: FillImage | FillPoint = "mean"

    def __post_init__(self) -> None:
        check_values(vars(self), type(self))
        self._fill = Fill(self.fill, self.normalization)

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return a copy of `inputs`, partly occluded, and the targets as they are; see `Augmentation`."""
        mask = self.mask(inputs, relevance, generator, shard)
        return self._fill(inputs, mask, generator, shard), targets

    def mask(
        self,
        inputs: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> Tensor:
        """Return what would be occluded: (B, H, W) or (B, N), bool, on the device of `inputs`.

        A shard without samples to occlude, of a batch with such, asks `relevance` for the maps of no rows, n = 0.
        """
        if self.needs_relevance and relevance is None:
            raise ReldropError(f"{type(self).__name__} needs relevance=, a function of rows of the batch")
        batch, *size = positions(inputs)
        if any(side % self.cell for side in size):
            raise ReldropError(f"cell={self.cell} must divide the sides of images of {tuple(size)} pixels")
        shard = shard or Shard.whole(batch)
        decisions = torch.rand(shard.count if self.decide_per == "image" else 1, generator=generator) < self.probability
        chosen = decisions.expand(shard.count).nonzero()[:, 0]  # on the CPU, so that nothing waits for the device
        mask = torch.zeros(batch, *size, dtype=torch.bool, device=inputs.device)
        if len(chosen) == 0:
            return mask
        own = shard.local_slice(chosen)
        index = (chosen[own] - shard.start).to(inputs.device, non_blocking=True)
        maps = relevance(index) if self.needs_relevance else inputs[: len(index)].select(channel_axis(inputs), 0)
        draws = self.sample(len(chosen), tuple(side // self.cell for side in size), generator, inputs.device)
        if len(index) == 0:
            return mask
        if self.cell > 1:
            maps = F.avg_pool2d(maps[:, None], self.cell)[:, 0]
        own_draws = (draw[own].to(inputs.device, non_blocking=True) for draw in draws)
        masked = self.make_mask(maps, *self.geometry(inputs, index), *own_draws)
        if self.cell > 1:
            masked = masked.repeat_interleave(self.cell, 1).repeat_interleave(self.cell, 2)
        return mask.index_copy_(0, index, masked)

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        """Return the random numbers that masks depend on; here, none.

        Args:
            count: samples to occlude, of the whole batch.
            size: of their maps, (H, W) or (N,).
            rng: on the CPU.
            device: of the maps. Draw many numbers there, by `device_generator`, and few on the CPU.
        """
        return ()

    def geometry(self, inputs: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        """Return what of the inputs of some rows masks depend on, besides their relevance; here, nothing.

        Args:
            inputs: (B, C, H, W) or (B, N, C).
            index: rows of them, int64 (n,), on their device.
        """
        return ()

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        """Return the masks of n samples, bool, of the shape of `maps`.

        Args:
            maps: (n, H, W) or (n, N), their relevance; without `needs_relevance`, only its shape and device mean anything.
            draws: what `geometry` gave of them, then their rows of what `sample` gave, on the device of `maps`.
        """
        raise NotImplementedError


@dataclass(kw_only=True)
class StochasticThreshold(Occlusion):
    """Single pixels or points where alpha * U + (1 - alpha) * R >= 1 - beta, U uniform noise, R the relevance.

    Args:
        alpha: weight of the noise, in [0, 1]; 1 - alpha is that of the relevance, scaled to [0, 1] for each sample.
        beta: in [0, 1]; the larger, the more is occluded.
    """

    alpha: Fraction = 0.5
    beta: Fraction = 0.5

    def sample(self, count: int, size: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Draws:
        return (torch.rand(count, *size, device=device, generator=device_generator(rng, device)),)

    def make_mask(self, maps: Tensor, noise: Tensor) -> Tensor:
        return masks.threshold(maps, self.alpha, self.beta, noise)

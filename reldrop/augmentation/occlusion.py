"""What all occlusions share: coins, relevance of the chosen samples only, a mask, and something to put there."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.fill import Fill, Normalization
from reldrop.distributed.sharding import Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator
from reldrop.utils.tensors import channel_axis, positions

Relevance = Callable[
    [Tensor], Tensor
]  # rows of the batch, int64 (n,), on its device -> their maps, (n, H, W) or (n, N)


class NoAugmentation:
    """Leave the batch as it is."""

    kind = None  # of any kind
    needs_relevance = False

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and targets as they are."""
        return inputs, targets


class Occlusion:
    """Tosses coins, asks for the relevance of the samples to be occluded (and of no others), masks, and fills.

    Args:
        probability: of a sample to be occluded, in [0, 1].
        decide_per: "image": each sample has a coin of its own; "batch": one coin for all (as in the release).
        fill, normalization: see `Fill`.
        cell: side in pixels of what is occluded as a whole, e.g. the patch of a vision transformer. Masks are made for the
            coarse image of its cells, each with the relevance of all its pixels.
    """

    kind: str  # "images" or "points"
    needs_relevance = True

    def __init__(
        self,
        probability: float,
        decide_per: str,
        fill: str | float | Sequence[float],
        normalization: Normalization | None = None,
        cell: int = 1,
    ) -> None:
        self.probability, self.decide_per, self.cell = probability, decide_per, cell
        self.fill = Fill(fill, normalization)

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return a copy of `inputs`, (B, C, H, W) or (B, N, C), partly occluded, and the targets as they are.

        Args:
            targets: classes (B,).
            relevance: gives the maps of some rows for their classes; occlusion at random does without.
            generator: on the CPU; the global one if None.
            shard: which rows of a batch the inputs are: the draws are those for the whole batch. None if they are all.
                A shard without samples to occlude, of a batch with such, asks `relevance` for none, n = 0.
        """
        mask = self.mask(inputs, relevance, generator, shard)
        return self.fill(inputs, mask, generator, shard), targets

    def mask(
        self,
        inputs: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> Tensor:
        """Return what would be occluded: (B, H, W) or (B, N), bool, on the device of `inputs`."""
        if self.needs_relevance and relevance is None:
            raise ReldropError(f"{type(self).__name__} needs relevance=, a function of rows of the batch")
        batch, *size = positions(inputs)
        shard = shard or Shard.whole(batch)
        coins = torch.rand(shard.count if self.decide_per == "image" else 1, generator=generator) < self.probability
        chosen = coins.expand(shard.count).nonzero()[:, 0]  # known to the host: the coins were tossed on the CPU
        mask = torch.zeros(batch, *size, dtype=torch.bool, device=inputs.device)
        if len(chosen) == 0:
            return mask
        own = shard.local_slice(chosen)
        index = (chosen[own] - shard.start).to(inputs.device, non_blocking=True)
        if not self.needs_relevance:
            maps = inputs[: len(index)].select(channel_axis(inputs), 0)
        else:
            maps = relevance(index)
        draws = self.sample(len(chosen), self._coarse(size), generator, inputs.device)
        if len(index) == 0:
            return mask
        return mask.index_copy_(0, index, self._place_cells(maps, [draw[own] for draw in draws]))

    def _coarse(self, size: Sequence[int]) -> tuple[int, ...]:
        if any(side % self.cell for side in size):
            raise ReldropError(f"cell={self.cell} must divide the sides of images of {tuple(size)} pixels")
        return tuple(side // self.cell for side in size)

    def _place_cells(self, maps: Tensor, draws: Sequence[Tensor]) -> Tensor:
        if self.cell == 1:
            return self.make_mask(maps, *draws)
        coarse = self.make_mask(F.avg_pool2d(maps[:, None], self.cell)[:, 0], *draws)
        return coarse.repeat_interleave(self.cell, 1).repeat_interleave(self.cell, 2)

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Return the random numbers that masks depend on, each tensor with a row for each sample.

        Args:
            count: samples to occlude, of the whole batch.
            size: of their maps, (H, W) or (N,).
            generator: on the CPU.
            device: of the maps; large draws are made there, small ones on the CPU.
        """
        raise NotImplementedError

    def make_mask(self, maps: Tensor, *draws: Tensor) -> Tensor:
        """Return the masks of n samples.

        Args:
            maps: (n, H, W) or (n, N), their relevance; without `needs_relevance`, only its shape and device mean anything.
            draws: their rows of what `draw` gave.
        """
        raise NotImplementedError


class StochasticThreshold(Occlusion):
    """Single pixels or points, the more likely the more relevant: where alpha * U + (1 - alpha) * R >= 1 - beta.

    Args:
        alpha: share of chance, in [0, 1]; the rest is relevance, scaled to [0, 1] for each sample.
        beta: the larger, the more is occluded, in [0, 1].
    """

    def __init__(
        self,
        probability: float,
        alpha: float,
        beta: float,
        decide_per: str,
        fill: str | float | Sequence[float],
        normalization: Normalization | None = None,
        cell: int = 1,
    ) -> None:
        super().__init__(probability, decide_per, fill, normalization, cell)
        self.alpha, self.beta = alpha, beta

    def sample(
        self, count: int, size: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, ...]:
        return (torch.rand(count, *size, device=device, generator=device_generator(generator, device)),)

    def make_mask(self, maps: Tensor, noise: Tensor) -> Tensor:
        return masks.threshold(maps, self.alpha, self.beta, noise)

"""What all occlusions share: coins, relevance of the chosen samples only, a mask, and something to put there."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.fill import Fill, Normalisation
from reldrop.errors import ReldropError
from reldrop.layout import channel_axis, positions
from reldrop.seeding import device_generator

# (n, C, H, W) images or (n, N, C) points, (n,) targets -> (n, H, W) or (n, N)
Relevance = Callable[[Tensor, Tensor], Tensor]


class NoAugmentation:
    """Leave the batch as it is."""

    inputs = None  # of any kind
    needs_relevance = False

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return `inputs`."""
        return inputs


class Occlusion:
    """Tosses coins, asks for the relevance of the samples to be occluded (and of no others), masks, and fills.

    Args:
        probability: of a sample to be occluded, in [0, 1].
        coin: "image": each sample has a coin of its own; "batch": one coin for all (as in the release).
        fill, normalisation: see `Fill`.
        cell: side in pixels of what is occluded as a whole, e.g. the patch of a vision transformer. Masks are made for the
            coarse image of its cells, each with the relevance of all its pixels.
    """

    inputs: str  # "images" or "points"
    needs_relevance = True

    def __init__(
        self,
        probability: float,
        coin: str,
        fill: str | float | Sequence[float],
        normalisation: Normalisation | None = None,
        cell: int = 1,
    ) -> None:
        check(cell >= 1, "cell", cell, "at least 1")
        self.cell = cell
        check(0 <= probability <= 1, "probability", probability, "in [0, 1]")
        check(coin in ("image", "batch"), "coin", coin, "'image' or 'batch'")
        self.probability, self.coin = probability, coin
        self.fill = Fill(fill, normalisation)

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return a copy of `inputs`, (B, C, H, W) or (B, N, C), of classes `targets` (B,), partly occluded.

        Args:
            relevance: gives the maps of n samples for their classes; occlusion at random does without.
            generator: on the CPU; the global one if None.
        """
        mask = self.mask(inputs, targets, relevance, generator)
        return self.fill(inputs, mask, generator)

    def mask(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return what would be occluded: (B, H, W) or (B, N), bool, on the device of `inputs`."""
        if self.needs_relevance and relevance is None:
            raise ReldropError(f"{type(self).__name__} needs relevance=, a function of inputs and targets")
        batch, *size = positions(inputs)
        coins = torch.rand(batch if self.coin == "image" else 1, generator=generator) < self.probability
        chosen = coins.expand(batch).nonzero()[:, 0]  # known to the host: the coins were tossed on the CPU
        mask = torch.zeros(batch, *size, dtype=torch.bool, device=inputs.device)
        if len(chosen) == 0:
            return mask
        index = chosen.to(inputs.device, non_blocking=True)
        if not self.needs_relevance:
            maps = inputs[: len(chosen)].select(channel_axis(inputs), 0)
        elif len(chosen) == batch:
            maps = relevance(inputs, targets)
        else:
            maps = relevance(inputs[index], targets[index])
        return mask.index_copy_(0, index, self._place_cells(maps, generator))

    def _place_cells(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.cell == 1:
            return self.place(maps, generator)
        if any(side % self.cell for side in maps.shape[1:]):
            raise ReldropError(
                f"augmentation.cell is {self.cell}, which does not divide images of {tuple(maps.shape[1:])} pixels"
            )
        coarse = self.place(F.avg_pool2d(maps[:, None], self.cell)[:, 0], generator)
        return coarse.repeat_interleave(self.cell, 1).repeat_interleave(self.cell, 2)

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the masks of the n chosen samples.

        Args:
            maps: (n, H, W) or (n, N), their relevance; without `needs_relevance`, only its shape and device mean anything.
        """
        raise NotImplementedError


class Threshold(Occlusion):
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
        coin: str,
        fill: str | float | Sequence[float],
        normalisation: Normalisation | None = None,
        cell: int = 1,
    ) -> None:
        super().__init__(probability, coin, fill, normalisation, cell)
        check(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
        check(0 <= beta <= 1, "beta", beta, "in [0, 1]")
        self.alpha, self.beta = alpha, beta

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.rand(maps.shape, device=maps.device, generator=device_generator(generator, maps.device))
        return masks.threshold(maps, self.alpha, self.beta, noise)


def check(fine: bool, key: str, value: object, allowed: str) -> None:
    if not fine:
        raise ReldropError(f"augmentation.{key} is {value!r}; it must be {allowed}")

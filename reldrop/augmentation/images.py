"""Occlusion of images in training: none, at random, or where the network looks (paper, section 3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reldrop.augmentation import masks
from reldrop.augmentation.fill import Fill, Normalisation, device_generator
from reldrop.errors import ReldropError

Relevance = Callable[[Tensor, Tensor], Tensor]  # (n, C, H, W) inputs, (n,) targets -> (n, H, W)


class NoAugmentation:
    """Leave the batch as it is."""

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
    """Tosses coins, asks for the relevance of the images to be occluded (and of no others), masks, and fills.

    Args:
        probability: of an image to be occluded, in [0, 1].
        coin: "image": each image has a coin of its own; "batch": one coin for all (as in the release).
        fill, normalisation: see `Fill`.
    """

    needs_relevance = True

    def __init__(
        self, probability: float, coin: str, fill: str | Sequence[float], normalisation: Normalisation | None
    ) -> None:
        _check(0 <= probability <= 1, "probability", probability, "in [0, 1]")
        _check(coin in ("image", "batch"), "coin", coin, "'image' or 'batch'")
        self.probability, self.coin = probability, coin
        self.fill = Fill(fill, normalisation)

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return a copy of the normalised images `inputs` (B, C, H, W) of classes `targets` (B,), partly occluded.

        Args:
            relevance: gives the maps (n, H, W) of n images for their classes; Random Erasing does without.
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
        """Return what would be occluded: (B, H, W), bool, on the device of `inputs`."""
        if self.needs_relevance and relevance is None:
            raise ReldropError(f"{type(self).__name__} needs relevance=, a function of inputs and targets")
        batch, _, *size = inputs.shape
        coins = torch.rand(batch if self.coin == "image" else 1, generator=generator) < self.probability
        chosen = coins.expand(batch).nonzero()[:, 0]  # known to the host: the coins were tossed on the CPU
        mask = torch.zeros(batch, *size, dtype=torch.bool, device=inputs.device)
        if len(chosen) == 0:
            return mask
        index = chosen.to(inputs.device, non_blocking=True)
        if not self.needs_relevance:
            maps = inputs[: len(chosen), 0]
        elif len(chosen) == batch:
            maps = relevance(inputs, targets)
        else:
            maps = relevance(inputs[index], targets[index])
        return mask.index_copy_(0, index, self.place(maps, generator))

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the masks (n, H, W) of the n chosen images.

        Args:
            maps: (n, H, W), their relevance; without `needs_relevance`, only its shape and device mean anything.
        """
        raise NotImplementedError


class _Rectangles(Occlusion):
    """What random erasing, block and patch share.

    Args:
        area: smallest and largest area of the occlusion as a share of the image, in (0, 1].
        aspect: smallest aspect ratio, in (0, 1]; the largest is its inverse.
    """

    def __init__(
        self,
        probability: float = 0.5,
        area: Sequence[float] = (0.02, 0.4),
        aspect: float = 0.3,
        coin: str = "image",
        fill: str | Sequence[float] = "mean",
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(probability, coin, fill, normalisation)
        _check(
            len(area) == 2 and 0 < area[0] <= area[1] <= 1,
            "area",
            list(area),
            "two shares, 0 < smallest <= largest <= 1",
        )
        _check(0 < aspect <= 1, "aspect", aspect, "in (0, 1]")
        self.area, self.aspect = (float(area[0]), float(area[1])), aspect

    def _centred(self, relevance: Tensor, k: int, chosen: Tensor, sizes: tuple[Tensor, Tensor]) -> Tensor:
        """Masks of rectangles around pixels among the k most relevant: `chosen` (n, r) says which, sizes (n, r)."""
        if k > relevance[0].numel():
            raise ReldropError(f"augmentation.k is {k}, but the image has only {relevance[0].numel()} pixels")
        rows, columns = masks.most_relevant(relevance, k)
        chosen, heights, widths = (draw.to(relevance.device, non_blocking=True) for draw in (chosen, *sizes))
        top = rows.gather(1, chosen) - heights // 2
        left = columns.gather(1, chosen) - widths // 2
        return masks.rectangles(top, left, heights, widths, tuple(relevance.shape[1:]))


class RandomErasing(_Rectangles):
    """One rectangle at a uniformly drawn place inside the image (Zhong et al. 2020): the control of RelDrop-block."""

    needs_relevance = False

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        count, *size = maps.shape
        heights, widths = masks.draw_sizes((count, 1), tuple(size), self.area, self.aspect, generator)
        top, left = (
            (torch.rand(count, 1, generator=generator) * (whole - part + 1)).long()
            for whole, part in zip(size, (heights, widths), strict=True)
        )
        draws = (draw.to(maps.device, non_blocking=True) for draw in (top, left, heights, widths))
        return masks.rectangles(*draws, tuple(size))


class RelDropBlock(_Rectangles):
    """One rectangle around a pixel drawn from the k most relevant ones, clipped at the border.

    Args:
        k: number of candidate centres, >= 1.
    """

    def __init__(
        self,
        probability: float = 0.5,
        k: int = 1,
        area: Sequence[float] = (0.02, 0.4),
        aspect: float = 0.3,
        coin: str = "image",
        fill: str | Sequence[float] = "mean",
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(probability, area, aspect, coin, fill, normalisation)
        _check(k >= 1, "k", k, "at least 1")
        self.k = k

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        count, *size = maps.shape
        sizes = masks.draw_sizes((count, 1), tuple(size), self.area, self.aspect, generator)
        chosen = torch.randint(self.k, (count, 1), generator=generator)
        return self._centred(maps, self.k, chosen, sizes)


class RelDropPatch(_Rectangles):
    """A rectangle around each of the k most relevant pixels, each with the k-th part of the area.

    Args:
        k: number of centres, >= 1, and what each rectangle's area is divided by.
        rectangles: how many of them are placed, the most relevant first; None for all. (The release stops after one.)
    """

    def __init__(
        self,
        probability: float = 0.5,
        k: int = 5,
        rectangles: int | None = None,
        area: Sequence[float] = (0.02, 0.4),
        aspect: float = 0.3,
        coin: str = "image",
        fill: str | Sequence[float] = "mean",
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(probability, area, aspect, coin, fill, normalisation)
        _check(k >= 1, "k", k, "at least 1")
        _check(rectangles is None or 1 <= rectangles <= k, "rectangles", rectangles, f"null or 1 to k = {k}")
        self.k, self.rectangles = k, rectangles or k

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        area = (self.area[0] / self.k, self.area[1] / self.k)
        count, *size = maps.shape
        sizes = masks.draw_sizes((count, self.rectangles), tuple(size), area, self.aspect, generator)
        return self._centred(maps, self.k, torch.arange(self.rectangles).expand(count, -1), sizes)


class RelDropPixel(Occlusion):
    """Single pixels, the more likely the more relevant: where alpha * U + (1 - alpha) * R >= 1 - beta.

    Args:
        alpha: share of chance, in [0, 1]; the rest is relevance, scaled to [0, 1] for each image.
        beta: the larger, the more is occluded, in [0, 1].
    """

    def __init__(
        self,
        probability: float = 0.3,
        alpha: float = 0.3,
        beta: float = 0.5,
        coin: str = "image",
        fill: str | Sequence[float] = "mean",
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(probability, coin, fill, normalisation)
        _check(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
        _check(0 <= beta <= 1, "beta", beta, "in [0, 1]")
        self.alpha, self.beta = alpha, beta

    def place(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.rand(maps.shape, device=maps.device, generator=device_generator(generator, maps.device))
        return masks.threshold(maps, self.alpha, self.beta, noise)


def _check(fine: bool, key: str, value: object, allowed: str) -> None:
    if not fine:
        raise ReldropError(f"augmentation.{key} is {value!r}; it must be {allowed}")

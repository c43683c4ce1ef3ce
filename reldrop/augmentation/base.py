"""What an augmentation is: the base class of all of them, and the one that changes nothing."""

from collections.abc import Callable

import torch
from torch import Tensor

from reldrop.distributed.sharding import Shard

# From rows of the batch, int64 (n,) on its device, to their relevance: (n, H, W) for images, (n, N) for point clouds.
Relevance = Callable[[Tensor], Tensor]
Draws = tuple[Tensor, ...]  # random numbers, each tensor with a row for each sample


class Augmentation:
    """Changes a training batch before the network learns from it. Subclass it for one of your own; override `__call__`.

    An augmentation must keep these promises:

    - It returns new tensors, or those it was given; it changes none in place.
    - It draws from `generator` only, never from the global state, and draws for the whole batch (`shard.count`), so that
      results do not depend on the number of processes; for its own rows it takes `shard.rows` of the draws.
    - It asks for relevance only if needed, and only for the rows that it changes.

    Attributes:
        kind: "images" or "points", what it is for; None for both.
        needs_relevance: whether `__call__` asks for relevance. The attribution is checked before training only if it does.
    """

    kind: str | None = None
    needs_relevance: bool = False

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Relevance | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the inputs to train on, and their targets; here, both as they are.

        Args:
            inputs: normalized images (B, C, H, W), or point clouds (B, N, C), coordinates first.
            targets: classes, int64 (B,).
            relevance: gives the relevance of some rows of the batch for their classes.
            generator: on the CPU; None for the global one.
            shard: which rows of the whole batch the inputs are; None if they are all of it.
        """
        return inputs, targets


class NoAugmentation(Augmentation):
    """Leaves the batch as it is."""

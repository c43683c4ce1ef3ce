"""Whether relevance places occlusions better than chance, measured while training goes on."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from reldrop.augmentation import Occlusion
from reldrop.metrics.occlusion import hits
from reldrop.training.hooks import Hook
from reldrop.training.trainer import Trainer
from reldrop.utils.seeding import generator

logger = logging.getLogger("reldrop")

LEAST, PATIENCE = 1.1, 3  # the gain below which a warning is due, and for how many epochs in a row


class GuidanceGain(Hook):
    """Measures, after each epoch, what relevance adds to an occlusion that is placed by it; it changes no result.

    Some training samples, always the same, are all occluded as in training, and once more with their relevance shuffled over
    the pixels or points, by the same draws of size and shape. attribution/guidance_gain is the mean drop of the true class's
    probability by the one over that by the other: 1 is no better than random. It is null where the latter drops nothing.

    Args:
        samples: of the training split.
        shuffles: over which the drop at random is a mean.
    """

    def __init__(self, samples: int, shuffles: int = 3) -> None:
        self.samples, self.shuffles = samples, shuffles
        self._low = 0  # epochs in a row

    def measure(self, trainer: Trainer, record: dict[str, Any]) -> None:
        occlude = trainer.augmentation
        if not (isinstance(occlude, Occlusion) and occlude.needs_relevance) or trainer.cache is not None:
            return
        occlude = copy.copy(occlude)
        occlude.probability = 1.0
        batches = trainer.data.eval_batches("train", batch_size=self.samples, limit=self.samples)
        with trainer.fabric.autocast():
            drops = torch.stack([self._drops(trainer, occlude, *batch[:2]) for batch in batches]).sum(0)
        chosen, random = drops.tolist()
        gain = chosen / random if random > 0 else None
        record["attribution/guidance_gain"] = gain
        self._low = self._low + 1 if gain is not None and gain < LEAST else 0
        if self._low == PATIENCE:
            paper = getattr(occlude, "place_by", None) == "pixel"
            advice = "augmentation.place_by=block" if paper else "another attribution"
            logger.warning(
                "occlusions are placed no better than at random (attribution/guidance_gain below %.3g for %d epochs): try %s",
                LEAST,
                PATIENCE,
                advice,
            )
            self._low = -(10**9)  # once

    def _drops(self, trainer: Trainer, occlude: Occlusion, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums of what is lost of the true classes' probabilities: as relevance has it, and shuffled."""
        own = generator(trainer.seed, "guidance", trainer.epoch)
        maps = trainer.attribution(trainer.module, inputs, targets, generator=own).flatten(1)

        def probability(shown: Tensor) -> Tensor:
            with torch.inference_mode():
                return hits(trainer.module(shown), targets)[1].sum()

        def occluded(values: Tensor) -> Tensor:
            rng = generator(trainer.seed, "guidance", trainer.epoch, 1)  # the same draws each time
            places = values.view(len(inputs), *inputs.shape[2:]) if inputs.ndim == 4 else values
            return probability(occlude(inputs, targets, places.__getitem__, rng)[0])

        orders = [torch.rand(maps.shape, generator=own).argsort(1).to(maps.device) for _ in range(self.shuffles)]
        clean = probability(inputs)
        random = torch.stack([occluded(maps.gather(1, order)) for order in orders]).mean()
        return torch.stack([clean - occluded(maps), clean - random])

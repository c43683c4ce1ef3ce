"""What the robustness suite measures: each a class with `per_sample` and `summary`.

A measurement of your own is such a class, and a line in the list `measurements` of the suite.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from reldrop.evaluation.occluders import block_size, central_block, random_block, relevant_block
from reldrop.metrics import occlusion
from reldrop.metrics.accuracy import class_mean, confidences, ranks, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.regions import region_metrics, sparsity
from reldrop.metrics.registry import WORDS
from reldrop.runs.pictures import Curves
from reldrop.utils.seeding import derive_seed, uniform_of_items

ORDERS = ("most", "least", "random")
Hits = tuple[Tensor, Tensor]  # whether the true class is predicted, bool (B, M), and its probability, float64 (B, M)
Samples = dict[str, Tensor]  # key -> (N, ...), a row for each sample


@dataclass(frozen=True)
class EvalView:
    """A batch of B test samples."""

    inputs: Tensor  # (B, C, H, W) or (B, N, C), normalized
    targets: Tensor  # true classes, int64 (B,)
    items: Tensor  # numbers of the samples, int64 (B,); what is random depends on them alone
    relevance: Tensor  # float64 (B, H, W) or (B, N)
    logits: Tensor  # of the inputs, (B, classes)
    region: Tensor | None  # of interest, bool (B, H, W); None without annotations
    show: Callable[[Iterable[Tensor]], Hits]  # what the network makes of the inputs under M masks, see `predict_masked`


class Measurement:
    """Measures each sample, and makes figures of all samples. `group` is its name in evaluation.json and .npz."""

    group: ClassVar[str]

    def per_sample(self, view: EvalView) -> Samples:
        """Return what is measured, key -> (B, ...)."""
        raise NotImplementedError

    def summary(self, samples: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return figures of what `per_sample` returned for all batches, float64 (N, ...); here means of what is defined."""
        return {key: values.nanmean().item() for key, values in samples.items()}


class Clean(Measurement):
    """Accuracy and calibration on clean inputs. `train_rank`, the ranks of training samples, is added by the suite."""

    group = "clean"

    def per_sample(self, view: EvalView) -> Samples:
        rank = ranks(view.logits, view.targets)
        return {"label": view.targets, "rank": rank, "confidence": confidences(view.logits)}

    def summary(self, samples: Mapping[str, Tensor]) -> dict[str, float]:
        rank, confidence = samples["rank"], samples["confidence"]
        test, train = top_k(rank, 1), top_k(samples["train_rank"], 1)
        return {
            "top1": test,
            "top5": top_k(rank, 5),
            "class_mean": class_mean(rank == 0, samples["label"].long()),
            "train_top1": train,
            "generalization_gap": train - test,
            "rms_calibration_error": rms_calibration_error(confidence, rank == 0),
            "aurra": aurra(confidence, rank == 0),
        }


@dataclass(frozen=True)
class OcclusionCurves(Measurement):
    """Pixels or points are hidden step by step: the most relevant first (MoRF), the least first (LeRF), at random.

    Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network Has Learned". Per sample: ORDER/correct
    and ORDER/probability, (N, steps + 1), averaged over draws where random. Figures: areas under the means over samples.
    """

    steps: int = 32  # equal ones, until all are hidden
    random_draws: int = 3
    seed: int = 0  # of the random orders
    group = "curves"

    def per_sample(self, view: EvalView) -> Samples:
        shape, order = view.relevance.shape, occlusion.feature_ranks(view.relevance)
        counts = occlusion.step_counts(order.shape[1], self.steps)
        draws = (
            occlusion.random_ranks(view.items, order.shape[1], draw, self.seed) for draw in range(self.random_draws)
        )
        curves = {
            "most": [view.show(occlusion.most_first(order, counts, shape))],
            "least": [view.show(occlusion.least_first(order, counts, shape))],
            "random": [view.show(occlusion.most_first(draw, counts, shape)) for draw in draws],
        }
        start = [
            values[:, None].double() for values in occlusion.hits(view.logits, view.targets)
        ]  # where nothing is hidden yet
        return _mean_over_draws(curves, start)

    def summary(self, samples: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        result = {}
        for key, figure in (("correct", "accuracy"), ("probability", "probability")):
            areas = {order: occlusion.occlusion_auc(samples[f"{order}/{key}"]).nanmean().item() for order in ORDERS}
            result[figure] = {**areas, "least_minus_most": areas["least"] - areas["most"]}
        return result


@dataclass(frozen=True)
class OcclusionBlocks(Measurement):
    """One block of an image, or ball of a cloud, is hidden: at the most relevant place, at random, in the center.

    Per sample: PLACE/correct and PLACE/probability, (N, areas), averaged over draws where random.
    """

    areas: Sequence[float]  # shares of the area, or of the points, that a block hides
    draws: int = 3
    seed: int = 0  # of the random places
    group = "blocks"

    def per_sample(self, view: EvalView) -> Samples:
        places = self._image_blocks if view.inputs.ndim == 4 else self._balls
        masks = places(view).items()
        return _mean_over_draws({place: [view.show(each) for each in draws] for place, draws in masks})

    def _image_blocks(self, view: EvalView) -> dict[str, list[Iterator[Tensor]]]:
        shape = view.relevance.shape
        sizes = [block_size(area, (shape[1], shape[2])) for area in self.areas]
        at_random = partial(random_block, view.items, shape=shape, seed=self.seed)
        return {
            "relevant": [(relevant_block(view.relevance, size) for size in sizes)],
            "random": [map(partial(at_random, draw=draw), sizes) for draw in range(self.draws)],
            "center": [(central_block(size, shape, view.inputs.device) for size in sizes)],
        }

    def _balls(self, view: EvalView) -> dict[str, list[Iterator[Tensor]]]:
        xyz, shape = view.inputs[..., :3], view.relevance.shape
        counts = [max(1, round(area * shape[1])) for area in self.areas]
        rows = torch.arange(len(xyz), device=xyz.device)

        def around(center: Tensor) -> Iterator[Tensor]:
            return occlusion.most_first(occlusion.nearness_ranks(xyz, center), counts, shape)

        uniform = uniform_of_items(view.items, self.draws, derive_seed(self.seed, "random ball"))
        return {
            "relevant": [around(xyz[rows, view.relevance.argmax(1)])],
            "random": [around(xyz[rows, (place * shape[1]).long()]) for place in uniform.T],
            "center": [around(xyz.mean(1))],
        }

    def summary(self, samples: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        result = {}
        for key, correct in samples.items():
            place, _, kind = key.partition("/")
            if kind == "correct":
                shares = zip(map(str, self.areas), correct.mean(0).tolist(), strict=True)
                result[place] = {**dict(shares), "mean": correct.mean().item()}
        return result


class RelevanceSparsity(Measurement):
    """Over how many features relevance spreads, see `reldrop.metrics.regions.sparsity`."""

    group = "spread"

    def per_sample(self, view: EvalView) -> Samples:
        return sparsity(view.relevance)


class RelevanceRegions(Measurement):
    """How much relevance is in the region of interest, see `reldrop.metrics.regions.region_metrics`."""

    group = "regions"

    def per_sample(self, view: EvalView) -> Samples:
        return {} if view.region is None else region_metrics(view.relevance, view.region)

    def summary(self, samples: Mapping[str, Tensor]) -> dict[str, float]:
        return {**super().summary(samples), "samples": int(samples["rank_accuracy"].isfinite().sum())}


def accuracy_curves(samples: Mapping[str, Tensor]) -> Curves:
    """Return the mean accuracy over samples, measured by `OcclusionCurves`, while more and more is hidden, for each order."""
    values = {WORDS.get(order, order): samples[f"curves/{order}/correct"].nanmean(0).tolist() for order in ORDERS}
    steps = len(next(iter(values.values()))) - 1
    places = [step / steps for step in range(steps + 1)]
    return Curves("Accuracy under occlusion", "hidden share", "accuracy", "order", places, values)


def _mean_over_draws(shown: Mapping[str, Sequence[Hits]], start: Sequence[Tensor] | None = None) -> Samples:
    """Return NAME/correct and NAME/probability, the means over the draws of each name, behind the columns of `start`."""
    result = {}
    for name, draws in shown.items():
        for place, key in enumerate(("correct", "probability")):
            mean = torch.stack([draw[place].double() for draw in draws]).mean(0)
            result[f"{name}/{key}"] = mean if start is None else torch.cat([start[place], mean], 1)
    return result

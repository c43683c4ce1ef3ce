"""The robustness suite: what a trained network makes of its test inputs when parts of them are hidden, and where it looks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.attribution import Attribution
from reldrop.data import Data
from reldrop.data.images.annotations import Regions
from reldrop.distributed.sharding import ALL, BatchSharder
from reldrop.metrics import occlusion
from reldrop.metrics.accuracy import confidences, ranks, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.regions import region_metrics, spread
from reldrop.utils.seeding import derive_seed, generator, uniform_of_items
from reldrop.utils.tensors import positions
from reldrop.utils.types import Count, OpenFraction, Seed, checked

ORDERS = ("most", "least", "random")
KEYS = ("correct", "probability")  # of an outcome
Outcome = tuple[Tensor, Tensor]  # see `reldrop.metrics.occlusion.outcomes`
Samples = dict[str, Tensor]  # what was measured -> (N, ...), a row for each sample


@checked
@dataclass(frozen=True)
class Robustness:
    """Accuracy on clean and on partly hidden test inputs, and the place and spread of relevance.

    Nothing random here depends on the network: the same samples, places and orders are drawn for every run, so that runs
    are compared in pairs.

    Attributes:
        steps: equal steps in which the pixels or points of a sample are hidden, until all are.
        fill: what is put there, see `Occluder`; None for the mean of the data set, or the first point of a cloud.
        random_draws: random orders, over which the curve is averaged.
        blocks: shares of the area, or of the points, that one block hides.
        block_draws: random places of a block, over which the accuracy is averaged.
        regions: where boxes or masks of the test images come from, see `reldrop.data.images.annotations.find_regions`.
        train_samples: clean training samples for the generalization gap; None for all.
        seed: of the random orders and places.

    Raises:
        ReldropError: a setting is out of range.
    """

    name: ClassVar[str] = "evaluation"

    steps: Count = 32
    fill: Literal["mean", "zero", "blur", "noise", "first", "remove"] | None = None
    random_draws: Count = 3
    blocks: Sequence[OpenFraction] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    block_draws: Count = 3
    regions: str | None = "auto"
    train_samples: Count | None = 10_000
    seed: Seed = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))

    def measure(
        self,
        model: nn.Module,
        data: Data,
        attribution: Attribution,
        regions: Regions | None = None,
        limit: int | None = None,
        batch_size: int = 256,
        predict: occlusion.Predict | None = None,
        progress: bool = True,
        sharder: BatchSharder = ALL,
    ) -> Samples:
        """Return what is measured of each of N test samples, float64, not a number where it is not defined.

        Keys are paths. clean/: label, rank of the true class, confidence. curves/ORDER/: correct and probability of the true
        class, (N, steps + 1), with most, least, and random first; the last two averaged over draws where random.
        blocks/PLACE/: likewise (N, blocks), with the block where most relevance is, at random, and in the center. regions/ and
        spread/: see `reldrop.metrics.regions`.

        Args:
            model: the network, in evaluation mode; on the device of the data.
            attribution: where relevance comes from, which need not be that of the training.
            regions: of the test images; None for no such measurements.
            limit: test samples, a random choice that is always the same; None for all.
            batch_size: inputs that the network is shown at once.
            predict: what calls the network, e.g. in another precision; None for the network itself.
            sharder: which of several processes this is; each measures other samples, perhaps none.

        Raises:
            ReldropError: the settings do not fit the data.
        """
        predict = torch.inference_mode()(predict or model)
        occluder = self._occluder(data)
        counts = occlusion.step_counts(data.dummy_input()[0].numel() // data.channels, self.steps)
        draws = generator(self.seed, "attribution")
        measured: dict[str, list[Tensor]] = {}
        total = min(limit or len(data.test), len(data.test))
        bar = tqdm(total=total, desc="test", unit=data.unit, leave=False, disable=None if progress else True)
        for inputs, targets, items, *_ in data.eval_batches(
            "test", batch_size=batch_size, limit=limit, sharder=sharder
        ):
            relevance = attribution(model, inputs, targets, generator=draws).double()
            logits, hide = predict(inputs), occluder.start(inputs, items)
            at_once = occluder.at_once(len(inputs), batch_size)
            show = partial(occlusion.outcomes, predict, hide, targets, at_once=at_once)
            rows = self._clean(logits, targets)
            rows |= self._curves(occlusion.outcome(logits, targets), relevance, items, show, counts)
            rows |= self._blocks(inputs, relevance, items, show)
            rows |= {f"spread/{key}": values for key, values in spread(relevance).items()}
            if regions is not None:
                masks = regions.masks([data.test.paths[item] for item in items.tolist()]).to(inputs.device)
                rows |= {f"regions/{key}": values for key, values in region_metrics(relevance, masks).items()}
            for key, values in rows.items():
                measured.setdefault(key, []).append(values.double().cpu())
            bar.update(len(inputs))
        bar.close()
        return {key: torch.cat(parts) for key, parts in measured.items()}

    @torch.inference_mode()
    def measure_training(self, model: nn.Module, data: Data, batch_size: int = 256) -> Samples:
        """Return train/rank, of the true class of clean training samples, see `train_samples`."""
        batches = data.eval_batches("train", batch_size=batch_size, limit=self.train_samples)
        return {
            "train/rank": torch.cat([ranks(model(inputs), targets).double().cpu() for inputs, targets, *_ in batches])
        }

    def _occluder(self, data: Data) -> occlusion.Occluder:
        fill = self.fill or {"images": "mean", "points": "first"}[data.kind]
        return occlusion.Occluder(fill, data.kind, data.augmentation_kwargs.get("normalization"))

    def _clean(self, logits: Tensor, targets: Tensor) -> Samples:
        return {"clean/label": targets, "clean/rank": ranks(logits, targets), "clean/confidence": confidences(logits)}

    def _curves(
        self, clean: Outcome, relevance: Tensor, items: Tensor, show: Callable[..., Outcome], counts: Sequence[int]
    ) -> Samples:
        shape, order = relevance.shape, occlusion.feature_ranks(relevance)
        at_random = (
            occlusion.random_ranks(items, order.shape[1], draw, self.seed) for draw in range(self.random_draws)
        )
        curves = {
            "most": [show(masks=occlusion.most_first(order, counts, shape))],
            "least": [show(masks=occlusion.least_first(order, counts, shape))],
            "random": [show(masks=occlusion.most_first(random, counts, shape)) for random in at_random],
        }
        start = dict(zip(KEYS, clean, strict=True))  # where nothing is hidden yet
        return {
            path: torch.cat([start[path.rpartition("/")[2]][:, None].double(), values], 1)
            for path, values in _means("curves", curves).items()
        }

    def _blocks(self, inputs: Tensor, relevance: Tensor, items: Tensor, show: Callable[..., Outcome]) -> Samples:
        if not self.blocks:
            return {}
        places = self._image_blocks if inputs.ndim == 4 else self._balls
        masks = places(inputs, relevance, items)
        return _means("blocks", {place: [show(masks=each) for each in draws] for place, draws in masks.items()})

    def _image_blocks(self, inputs: Tensor, relevance: Tensor, items: Tensor) -> dict[str, list[Iterator[Tensor]]]:
        shape = positions(inputs)
        sizes = [occlusion.block_size(area, (shape[1], shape[2])) for area in self.blocks]
        at_random = partial(occlusion.random_block, items, shape=shape, seed=self.seed)
        return {
            "relevant": [(occlusion.relevant_block(relevance, size) for size in sizes)],
            "random": [map(partial(at_random, draw=draw), sizes) for draw in range(self.block_draws)],
            "center": [(occlusion.central_block(size, shape, inputs.device) for size in sizes)],
        }

    def _balls(self, inputs: Tensor, relevance: Tensor, items: Tensor) -> dict[str, list[Iterator[Tensor]]]:
        xyz, shape = inputs[..., :3], positions(inputs)
        counts = [max(1, round(area * shape[1])) for area in self.blocks]
        rows = torch.arange(len(xyz), device=xyz.device)

        def around(center: Tensor) -> Iterator[Tensor]:
            return occlusion.most_first(occlusion.nearness_ranks(xyz, center), counts, shape)

        uniform = uniform_of_items(items, self.block_draws, derive_seed(self.seed, "random ball"))
        return {
            "relevant": [around(xyz[rows, relevance.argmax(1)])],
            "random": [around(xyz[rows, (place * shape[1]).long()]) for place in uniform.T],
            "center": [around(xyz.mean(1))],
        }


def summarize(samples: Mapping[str, Tensor], blocks: Sequence[float]) -> dict[str, Any]:
    """Return means over the samples that `Robustness.measure` gave, nested: all in [0, 1] but for differences and spread.

    Args:
        samples: what was measured.
        blocks: the shares of the area that blocks hid.
    """
    rank, confidence = samples["clean/rank"], samples["clean/confidence"]
    test, train = top_k(rank, 1), top_k(samples["train/rank"], 1)
    result: dict[str, Any] = {
        "samples": len(rank),
        "clean": {
            "top1": test,
            "top5": top_k(rank, 5),
            "class_mean": _class_mean((rank == 0).double(), samples["clean/label"].long()),
            "train_top1": train,
            "generalization_gap": train - test,
            "rms_calibration_error": rms_calibration_error(confidence, rank == 0),
            "aurra": aurra(confidence, rank == 0),
        },
        "curves": areas(samples),
    }
    for key, values in samples.items():
        group, name, *rest = key.split("/")
        if group == "blocks" and rest == ["correct"]:
            shares = zip(map(str, blocks), values.mean(0).tolist(), strict=True)
            result.setdefault(group, {})[name] = {**dict(shares), "mean": values.mean().item()}
        elif group in ("regions", "spread"):
            result.setdefault(group, {})[name] = _mean_of(values)
    if "regions" in result:
        result["regions"]["samples"] = int(samples["regions/rank_accuracy"].isfinite().sum())
    return result


def areas(samples: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the areas under the curves of accuracy and probability, for each order, and the gap between two orders."""
    result = {}
    for key, figure in (("correct", "accuracy"), ("probability", "probability")):
        under = {order: _mean_of(occlusion.area_under(samples[f"curves/{order}/{key}"])) for order in ORDERS}
        result[figure] = {**under, "least_minus_most": under["least"] - under["most"]}
    return result


def _class_mean(correct: Tensor, labels: Tensor) -> float:
    """The mean over the classes that have samples of the accuracies in them."""
    sizes = labels.bincount()
    hits = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, labels, correct)
    return (hits / sizes)[sizes > 0].mean().item()


def _means(group: str, shown: Mapping[str, Sequence[Outcome]]) -> Samples:
    """Return the outcomes under each name, averaged over its draws, by the paths GROUP/NAME/KEY."""
    return {
        f"{group}/{name}/{key}": torch.stack([values.double() for values in draws]).mean(0)
        for name, outcomes in shown.items()
        for key, draws in zip(KEYS, zip(*outcomes, strict=True), strict=True)
    }


def _mean_of(values: Tensor) -> float:
    """The mean of what is defined; not a number if nothing is."""
    return values.nanmean().item()

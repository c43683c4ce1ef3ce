"""The robustness suite: what a trained network makes of its test inputs when parts of them are hidden, and where it looks.

It consists of measurements (`reldrop.evaluation.measurements`), which all see the same batches of test samples.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.attribution import Attribution
from reldrop.data import Data
from reldrop.data.images.annotations import Regions, find_regions
from reldrop.distributed.launch import gather
from reldrop.distributed.sharding import ALL, BatchSharder
from reldrop.evaluation.measurements import (
    Clean,
    EvalView,
    Measurement,
    OcclusionBlocks,
    OcclusionCurves,
    RelevanceRegions,
    RelevanceSparsity,
    Samples,
    accuracy_curves,
)
from reldrop.evaluation.occluders import Occluder, Predict, predict_masked
from reldrop.evaluation.suite import Options, Result, Subject, Suite
from reldrop.metrics.accuracy import ranks
from reldrop.runs.pictures import Curves
from reldrop.training.contracts import check_attribution
from reldrop.training.hooks import Hook
from reldrop.training.trainer import Trainer
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.seeding import generator
from reldrop.utils.types import Count, OpenFraction, Seed, checked

logger = logging.getLogger("reldrop")


def views(
    model: nn.Module,
    data: Data,
    attribution: Attribution,
    regions: Regions | None = None,
    limit: int | None = None,
    batch_size: int = 256,
    *,
    fill: str | None = None,
    seed: int = 0,
    predict: Predict | None = None,
    progress: bool = False,
    sharder: BatchSharder = ALL,
) -> Iterator[EvalView]:
    """Yield the test samples in batches, as measurements see them.

    Args:
        model: the network, in evaluation mode; on the device of the data.
        attribution: where relevance comes from, which need not be that of the training.
        regions: of the test images; None for views without.
        limit: test samples, a random choice that is always the same; None for all.
        batch_size: inputs that the network is shown at once.
        fill: what is put where inputs are hidden, see `Occluder`.
        seed: of an attribution that is random.
        predict: what calls the network, e.g. in another precision; None for the network itself.
        progress: whether to show a bar, on a terminal.
        sharder: which of several processes this is; each has other samples, perhaps none.
    """
    predict = torch.inference_mode()(predict or model)
    occluder = Occluder(fill, data.kind, data.augmentation_kwargs.get("normalization"))
    rng = generator(seed, "attribution")
    total = min(limit or len(data.test), len(data.test))
    batches = data.eval_batches("test", batch_size=batch_size, limit=limit, sharder=sharder)
    with tqdm(total=total, desc="test", unit=data.unit, leave=False, disable=None if progress else True) as bar:
        for inputs, targets, items, *_ in batches:
            relevance = attribution(model, inputs, targets, generator=rng).double()
            paths = [] if regions is None else [data.test.paths[item] for item in items.tolist()]
            region = None if regions is None else regions.masks(paths).to(inputs.device)
            hide = occluder.start(inputs, items)
            at_once = occluder.masks_per_batch(len(inputs), batch_size)
            show = partial(predict_masked, predict, hide, targets, masks_per_batch=at_once)
            yield EvalView(inputs, targets, items, relevance, predict(inputs), region, show)
            bar.update(len(inputs))


def measure(measurements: Sequence[Measurement], batches: Iterator[EvalView]) -> Samples:
    """Return what is measured of each of N samples, GROUP/KEY -> float64 (N, ...), not a number where it is not defined."""
    measured: dict[str, list[Tensor]] = {}
    for view in batches:
        for measurement in measurements:
            for key, values in measurement.per_sample(view).items():
                measured.setdefault(f"{measurement.group}/{key}", []).append(values.double().cpu())
    return {key: torch.cat(parts) for key, parts in measured.items()}


def summarize(measurements: Sequence[Measurement], samples: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the figures of each measurement by its group; one that measured nothing is left out."""
    figures = {}
    for measurement in measurements:
        prefix = f"{measurement.group}/"
        own = {key.removeprefix(prefix): values for key, values in samples.items() if key.startswith(prefix)}
        if own:
            figures[measurement.group] = measurement.summary(own)
    return figures


@checked
@dataclass(frozen=True)
class Robustness(Suite):
    """Accuracy on clean and on partly hidden test inputs, and the place and sparsity of relevance.

    Nothing random here depends on the network: the same samples, places and orders are drawn for every run, so that runs
    are compared in pairs.

    Raises:
        ReldropError: a setting is out of range.
    """

    name: ClassVar[str] = "evaluation"
    settings: ClassVar[tuple[str, ...]] = ("suite", "attribution", "limit", "precision")
    compared: ClassVar[bool] = True

    steps: Count = 32  # equal steps in which the pixels or points of a sample are hidden, until all are
    fill: Literal["mean", "zero", "blur", "noise", "first", "remove"] | None = None  # see `Occluder`
    random_draws: Count = 3  # random orders, over which the curve is averaged
    blocks: Sequence[OpenFraction] = (
        0.05,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
    )  # shares of the area, or points, that one block hides
    block_draws: Count = 3  # random places of a block, over which the accuracy is averaged
    regions: str | None = "auto"  # of the test images, see `reldrop.data.images.annotations.find_regions`
    train_samples: Count | None = 10_000  # clean training samples for the generalization gap; None for all
    seed: Seed = 0  # of the random orders and places
    measurements: Sequence[Measurement] = ()  # further ones

    @property
    def all_measurements(self) -> list[Measurement]:
        blocks = [OcclusionBlocks(self.blocks, self.block_draws, self.seed)] if self.blocks else []
        curves = OcclusionCurves(self.steps, self.random_draws, self.seed)
        return [Clean(), curves, *blocks, RelevanceSparsity(), RelevanceRegions(), *self.measurements]

    def evaluate(self, subject: Subject, options: Options) -> Result:
        """Measure the network of a run on its test samples.

        Raises:
            ReldropError: it is none of a run, the settings do not fit its data, or the attribution is not for it.
        """
        if subject.checkpoint is None:
            raise ReldropError(
                "model=NAME goes with suite=zero_shot; this suite takes runs, with their data: run=FOLDER"
            )
        data, device = options.data(subject.checkpoint), options.fabric.device
        model = subject.checkpoint.network(**data.model_kwargs).to(device)
        two = torch.cat([data.dummy_input()] * 2).to(device)
        check_attribution(options.attribution, model, two, torch.zeros(2, dtype=torch.long, device=device))
        regions = None
        if data.kind == "images":
            root = str(options.data_dir or subject.checkpoint.cfg.data_dir)
            regions = find_regions(self.regions, root, data)
        elif self.regions not in (None, "auto"):
            raise ReldropError(
                f"suite.regions={self.regions} is for images, but {data.name} has {data.kind}; set it to null"
            )
        parts = {"model": model, "data": data, "attribution": options.attribution, "regions": regions}
        how = {"limit": options.limit, "batch_size": options.batch_size, "progress": options.progress}
        with options.fabric.autocast():
            figures, samples = self.measure(**parts, **how)
        hidden = "pixels" if data.kind == "images" else "points"
        facts = {"hidden": hidden, "regions_from": None if regions is None else regions.source}
        return Result({**facts, **figures}, samples, {"checkpoint": subject.checkpoint, **parts})

    def measure(
        self, model: nn.Module, data: Data, attribution: Attribution, regions: Regions | None = None, **options: Any
    ) -> tuple[dict[str, Any], Samples]:
        """Return figures, means over the samples by group, and what was measured of each sample.

        The arguments are those of `views`.
        """
        batches = views(model, data, attribution, regions, fill=self.fill, seed=self.seed, **options)
        samples = measure(self.all_measurements, batches)
        training = data.eval_batches("train", batch_size=options.get("batch_size", 256), limit=self.train_samples)
        with torch.inference_mode():
            train_ranks = [ranks(model(batch.inputs), batch.targets).double().cpu() for batch in training]
        samples["clean/train_rank"] = torch.cat(train_ranks)
        return {"samples": len(samples["clean/rank"]), **summarize(self.all_measurements, samples)}, samples


class QuickOcclusion(Hook):
    """Measures, while training goes on, accuracy under occlusion, and how sparse relevance is; it changes no result.

    Adds to the record of an epoch occlusion/most, least and random, areas under the accuracy while more and more is hidden
    in this order; occlusion/block_relevant and block_random, accuracy under one block there; and attribution/gini.

    Args:
        every_epochs: epochs between measurements; the last epoch is measured in any case.
        samples: of the test split, always the same; None for one for 400 training samples that these epochs show, which
            takes some percent of their time, but 64 to 1,000.
        steps: in which all pixels or points are hidden.
        block: share of the area, or of the points, that a block, or ball, hides.
    """

    def __init__(self, every_epochs: int, samples: int | None, steps: int = 8, block: float = 0.25) -> None:
        self.every_epochs, self.samples, self.block = every_epochs, samples, block
        blocks = OcclusionBlocks([block], draws=1)
        self.measurements = (OcclusionCurves(steps, random_draws=1), blocks, RelevanceSparsity())
        self.curves: Curves | None = None  # as measured last
        self._refused = False

    def measure(self, trainer: Trainer, record: dict[str, Any]) -> None:
        last = record["epoch"] == trainer.config.epochs or trainer.steps_done
        if self._refused or (record["epoch"] % self.every_epochs and not last):
            return
        shown = len(trainer.data.train) * self.every_epochs
        samples = self.samples or min(1000, max(64, shown // 400))
        parts, size = (trainer.module, trainer.data, trainer.attribution), trainer.config.eval_batch_size
        batches = views(*parts, None, samples, size, predict=trainer.predict, sharder=trainer.sharder)
        try:
            with trainer.fabric.autocast():
                measured = measure(self.measurements, batches)
        except ReldropError as error:
            if trainer.augmentation.needs_relevance:
                raise
            self._refused = True
            logger.warning("accuracy under occlusion is not measured while training: %s", first_line(error))
            return
        processes = gather(measured)
        shards = [shard for shard in processes if shard]  # a process may have had no batch
        samples = {key: torch.cat([shard[key] for shard in shards]) for key in shards[0]}
        figures = summarize(self.measurements, samples)
        self.curves = accuracy_curves(samples)
        record.update({f"occlusion/{order}": area for order, area in figures["curves"]["accuracy"].items()})
        places = {place: figures["blocks"][place]["mean"] for place in ("relevant", "random")}
        record.update({f"occlusion/block_{place}": accuracy for place, accuracy in places.items()})
        record["attribution/gini"] = figures["spread"]["gini"]

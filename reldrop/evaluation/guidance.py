"""The guidance suite: what a block that relevance places hides, what that costs, and whether a random place would do as well.

An extension of this project. A block of given area is put where a map says and filled; the drop of the true class's
probability says how much of what the network looks at was hidden. The network is trained already: this says what a block
does, not what training with it gains.
"""

import copy
import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from reldrop.attribution import Attribution
from reldrop.augmentation.fill import Normalization
from reldrop.augmentation.masks import nonnegative, place
from reldrop.augmentation.points import ball, ball_sums
from reldrop.data.base import Batch
from reldrop.evaluation.occluders import Occluder, block_size, central_block, predict_masked, random_block
from reldrop.evaluation.suite import Options, Result, Subject, Suite
from reldrop.metrics.occlusion import hits, nearness_ranks
from reldrop.utils.errors import ReldropError
from reldrop.utils.point_ops import farthest_points
from reldrop.utils.seeding import derive_seed, generator, uniform_of_items
from reldrop.utils.types import Count, OpenFraction, Seed, checked

logger = logging.getLogger("reldrop")

FLOORS = ("random", "center")  # places that need no relevance
# On images: how `reldrop.augmentation.masks.place` is called. On clouds, the first two are the same.
PLACEMENTS = {"pixel, clipped": ("pixel", "clip"), "pixel": ("pixel", "inside"), "block": ("block", "inside")}
Figures = dict[str, Any]


@checked
@dataclass(frozen=True)
class Guidance(Suite):
    """Effect and cost of guidances, each an attribution and a placement, and of random and central places as floors.

    Blocks are inside the image, so that all hide the same area, but for "pixel, clipped", the paper's rule. On point clouds
    they are balls of that share of the points: around the most relevant one, or where the sum is largest.

    Args:
        maps: attributions by name. Those that are not for a network are left out by name. Of the first, the positive
            relevance that blocks hide is counted.
        areas: shares of the image, or of the points, that a block or ball hides.
        placements: "pixel, clipped", "pixel" or "block".
        fill: what is put there, see `Occluder`.
        random_draws: random places of a block, over which means are taken.
        split: whose samples; test or train.
        cost_batch: samples in a batch when costs are measured.
        cost_rounds: rounds in which a training step and all attributions take turns; 0 measures no costs.
        seed: of the random places.

    Raises:
        ReldropError: a setting is out of range.
    """

    name: ClassVar[str] = "guidance"
    settings: ClassVar[tuple[str, ...]] = ("suite", "limit", "precision")

    maps: Mapping[str, Attribution]
    areas: Sequence[OpenFraction] = (0.05, 0.1, 0.2, 0.3, 0.4)
    placements: Sequence[Literal["pixel, clipped", "pixel", "block"]] = tuple(PLACEMENTS)
    fill: Literal["mean", "zero", "blur", "noise", "first", "remove"] | None = None
    random_draws: Count = 3
    split: Literal["test", "train"] = "test"
    cost_batch: Count = 64
    cost_rounds: int = 3
    seed: Seed = field(default=0)

    def evaluate(self, subject: Subject, options: Options) -> Result:
        """Measure the network of a run.

        Raises:
            ReldropError: it is none of a run, or the settings do not fit its data.
        """
        if subject.checkpoint is None:
            raise ReldropError(
                "model=NAME goes with suite=zero_shot; this suite takes runs, with their data: run=FOLDER. For another network "
                "see reldrop.evaluation.guidance.Guidance.measure"
            )
        data, device = options.data(subject.checkpoint), options.fabric.device
        model = subject.checkpoint.network(**data.model_kwargs).to(device).eval()
        batches = data.eval_batches(self.split, batch_size=options.batch_size, limit=options.limit)
        with options.fabric.autocast():
            normalization = data.augmentation_kwargs.get("normalization")
            figures, samples = self.measure(model, batches, normalization, options.batch_size)
        return Result({"split": self.split, **figures}, samples, {"figures": figures}, report(figures))

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], normalization: Normalization | None = None, size: int = 256
    ) -> tuple[Figures, dict[str, Tensor]]:
        """Return figures of a network, means over samples, and what was measured of each.

        Args:
            model: any classifier, in evaluation mode, on the device of the batches.
            batches: of inputs, targets, and numbers of the samples.
            normalization: (mean, std) per channel, which fill=zero needs.
            size: inputs that the network is shown at once.

        Returns:
            Figures for a JSON file, see `report`; and GUIDANCE/KEY -> (N, areas) with keys drop, correct, hidden and relevance.
        """
        measured: dict[str, list[Tensor]] = {}
        costs, maps = {}, dict(self.maps)
        for inputs, targets, items, *_ in batches:
            if not measured:
                maps = self._fitting(model, inputs[:1], targets[:1])
                costs = self._costs(model, maps, inputs[: self.cost_batch], targets[: self.cost_batch])
            for key, values in self._of_batch(model, maps, inputs, targets, items, normalization, size):
                measured.setdefault(key, []).append(values.double().cpu())
        samples = {key: torch.cat(parts) for key, parts in measured.items()}
        clean = {
            "top1": samples["clean/correct"].mean().item(),
            "probability": samples["clean/probability"].mean().item(),
        }
        names = dict.fromkeys(key.rsplit("/", 1)[0] for key in samples if not key.startswith("clean"))
        guidances = {name: self._summary(name, samples, costs.get(name.split("/")[0])) for name in names}
        return {"samples": len(samples["clean/correct"]), "clean": clean, "guidance": guidances}, samples

    def _of_batch(
        self,
        model: nn.Module,
        maps: Mapping[str, Attribution],
        inputs: Tensor,
        targets: Tensor,
        items: Tensor,
        normalization: Normalization | None,
        size: int,
    ) -> Iterator[tuple[str, Tensor]]:
        predict = torch.inference_mode()(model)
        occluder = Occluder(self.fill, "images" if inputs.ndim == 4 else "points", normalization)
        hide, at_once = occluder.start(inputs, items), occluder.masks_per_batch(len(inputs), size)
        show = partial(predict_masked, predict, hide, targets, masks_per_batch=at_once)
        correct, probability = hits(predict(inputs), targets)
        yield from (("clean/correct", correct), ("clean/probability", probability))
        rng = generator(self.seed, "attribution")
        found = {name: attribution(model, inputs, targets, generator=rng) for name, attribution in maps.items()}
        positive = nonnegative(next(iter(found.values()))).flatten(1)
        places = {name: [masks] for name, masks in self._guided(found, inputs)} | self._floors(inputs, items)
        for name, draws in places.items():
            shown = [show(masks) for masks in draws]
            flat = torch.stack([torch.stack([mask.flatten(1) for mask in masks], 1).double() for masks in draws])
            yield f"{name}/drop", probability[:, None] - torch.stack([values for _, values in shown]).mean(0)
            yield f"{name}/correct", torch.stack([values.double() for values, _ in shown]).mean(0)
            yield f"{name}/hidden", flat.mean((0, 3))
            hidden = (flat * positive[:, None]).sum(3).mean(0)
            yield f"{name}/relevance", hidden / positive.sum(1, keepdim=True).clamp(min=torch.finfo(hidden.dtype).tiny)

    def _guided(self, maps: Mapping[str, Tensor], inputs: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """Masks (B, ...) of each area, for each map and placement."""
        on_images = inputs.ndim == 4
        for name, relevance in maps.items():
            for placement in self.placements:
                if on_images or placement != "pixel, clipped":
                    at = partial(_block if on_images else _ball, inputs, relevance, placement)
                    yield f"{name}/{placement}", [at(area) for area in self.areas]

    def _floors(self, inputs: Tensor, items: Tensor) -> dict[str, list[list[Tensor]]]:
        """Masks (B, ...) of each area, for each draw of a place without relevance."""
        if inputs.ndim == 4:
            shape = (len(inputs), *inputs.shape[2:])
            sizes = [block_size(area, (shape[1], shape[2])) for area in self.areas]
            draws = [
                [random_block(items, each, shape, draw, self.seed) for each in sizes]
                for draw in range(self.random_draws)
            ]
            return {"random": draws, "center": [[central_block(each, shape, inputs.device) for each in sizes]]}
        xyz, size = inputs[..., :3], inputs.shape[1]
        uniform = uniform_of_items(items, self.random_draws, derive_seed(self.seed, "random ball"))
        centers = [(values * size).long()[:, None] for values in uniform.T]
        random = [[ball(xyz, center, _points(xyz, area)) for area in self.areas] for center in centers]
        ranks = nearness_ranks(xyz, xyz.mean(1))
        return {"random": random, "center": [[ranks < _points(xyz, area) for area in self.areas]]}

    def _fitting(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Attribution]:
        """The attributions that take a network; others are named."""
        fitting = {}
        for name, attribution in self.maps.items():
            try:
                attribution(model, inputs, targets, generator=generator(0, "attribution"))
                fitting[name] = attribution
            except ReldropError as error:
                logger.info("left out %s: %s", name, error)
        if not fitting:
            raise ReldropError("none of suite.maps is for this network")
        return fitting

    def _costs(
        self, model: nn.Module, maps: Mapping[str, Attribution], inputs: Tensor, targets: Tensor
    ) -> dict[str, float]:
        """Time of each attribution of a batch over that of a training step on it, medians over rounds."""
        trained = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(trained.parameters(), lr=1e-6)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(trained(inputs), targets).backward()
            optimizer.step()

        works = {"": step} | {name: partial(attribution, model, inputs, targets) for name, attribution in maps.items()}
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for number in range(self.cost_rounds + 1 if self.cost_rounds else 0):  # the first does not count
            for name, work in works.items():
                started = _now(inputs.device)
                work()
                if number:
                    seconds[name].append(_now(inputs.device) - started)
        medians = {name: statistics.median(values) for name, values in seconds.items() if values}
        return {name: value / medians[""] for name, value in medians.items() if name}

    def _summary(self, name: str, samples: Mapping[str, Tensor], cost: float | None) -> Figures:
        own = {key: samples[f"{name}/{key}"] for key in ("drop", "correct", "hidden", "relevance")}
        areas = [*map(str, self.areas), "mean"]
        with_mean = {key: torch.cat([values, values.mean(1, keepdim=True)], 1) for key, values in own.items()}
        names = {"drop": "drop", "correct": "accuracy", "hidden": "hidden", "relevance": "relevance_hidden"}
        figures = {
            names[key]: dict(zip(areas, values.mean(0).tolist(), strict=True)) for key, values in with_mean.items()
        }
        error = with_mean["drop"].std(0) / len(with_mean["drop"]) ** 0.5
        interval = dict(zip(areas, (1.96 * error).tolist(), strict=True))
        return {"cost": 0.0 if name in FLOORS else cost, **figures, "drop_interval": interval}


def report(figures: Figures) -> str:
    """Return figures of `Guidance.measure` as a Markdown table, the largest mean drop first."""
    guidances, clean = figures["guidance"], figures["clean"]
    areas = list(next(iter(guidances.values()))["drop"])
    lines = [
        f"{figures['samples']} samples, {clean['top1']:.1%} right, probability of the true class {clean['probability']:.3f}",
        "",
        "| map | place | attribution / plain step | hidden | relevance hidden | accuracy after | "
        + " | ".join(f"drop, {area if area == 'mean' else f'{float(area):.0%}'}" for area in areas)
        + " |",
        "|" + "---|" * (6 + len(areas)),
    ]
    for name, own in sorted(guidances.items(), key=lambda item: -item[1]["drop"]["mean"]):
        of_map, _, placement = name.partition("/")
        drops = [f"{own['drop'][area]:.3f} ± {own['drop_interval'][area]:.3f}" for area in areas]
        cost = "-" if own["cost"] is None else f"{own['cost']:.2f}"
        shares = [f"{own[key]['mean']:.3f}" for key in ("hidden", "relevance_hidden", "accuracy")]
        lines.append("| " + " | ".join([of_map, placement, cost, *shares, *drops]) + " |")
    return "\n".join(lines)


def _block(inputs: Tensor, relevance: Tensor, placement: str, area: float) -> Tensor:
    size = block_size(area, (relevance.shape[1], relevance.shape[2]))
    heights, widths = (relevance.new_full((len(relevance), 1), side, dtype=torch.long) for side in size)
    return place(relevance, 1, torch.zeros_like(heights), heights, widths, *PLACEMENTS[placement])


def _ball(inputs: Tensor, relevance: Tensor, placement: str, area: float) -> Tensor:
    xyz = inputs[..., :3]
    points = _points(xyz, area)
    if placement == "block":
        tried = farthest_points(xyz, 64)
        return ball(xyz, tried.gather(1, ball_sums(xyz, relevance, tried, points).argmax(1, keepdim=True)), points)
    return ball(xyz, relevance.argmax(1, keepdim=True), points)


def _points(xyz: Tensor, area: float) -> Tensor:
    return torch.full((len(xyz), 1), max(1, round(area * xyz.shape[1])), device=xyz.device)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

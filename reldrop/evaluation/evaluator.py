"""Evaluations of runs, in their folders: evaluation.json, evaluation.npz and figures."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from reldrop.config import build
from reldrop.data import Data
from reldrop.data.images.annotations import Regions, find_regions
from reldrop.distributed.launch import one_device
from reldrop.evaluation.robustness import Robustness
from reldrop.reporting.records import Record
from reldrop.runs.reader import Checkpoint, read_checkpoint
from reldrop.runs.tracking import mirror
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import atomic_write, write_json_atomic, writing
from reldrop.utils.nested import numbers

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a run.

    Attributes:
        folder: of the run.
        figures: the content of evaluation.json: of which run, with which settings, and means over the samples.
        samples: the content of evaluation.npz, see `Robustness.measure`.
    """

    folder: Path
    figures: dict[str, Any]
    samples: dict[str, Tensor]

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The figures by their paths, e.g. curves/accuracy/most, without what describes them."""
        measured = {key: value for key, value in self.figures.items() if key not in ("seed", "settings")}
        return numbers(measured, "/")

    @classmethod
    def read(cls, folder: Path, name: str) -> "Evaluation | None":
        """Return what was written to a run folder; None if nothing was, or it is damaged."""
        try:
            figures = json.loads((folder / f"{name}.json").read_text())
            with np.load(folder / f"{name}.npz") as arrays:
                samples = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return cls(folder, figures, samples)

    def write(self, name: str) -> None:
        """Write both files, each as a whole or not at all; the .json last."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with atomic_write(self.folder / f"{name}.npz") as file:
            np.savez_compressed(file, **{key: values.numpy() for key, values in self.samples.items()})
        write_json_atomic(self.folder / f"{name}.json", self.figures)


class Evaluator:
    """Evaluates one run after another in the same way.

    Args:
        suite: what is measured.
        cfg: the configuration of the evaluation, for its attribution.
        settings: those of `reldrop.evaluate`.

    Raises:
        ReldropError: the device or the precision is not to be had, or an attribution cannot be built.
    """

    def __init__(self, suite: Robustness, cfg: DictConfig, settings: Any) -> None:
        self.suite, self.settings = suite, settings
        self.attribution = build(cfg, "attribution")
        self.fabric = one_device(settings.accelerator, settings.precision)
        described = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("suite", "attribution")}
        self.how = {**described, "limit": settings.limit, "precision": settings.precision}
        self._data: tuple[DictConfig, Data] | None = None

    def evaluate(self, path: Path) -> Evaluation:
        """Evaluate a run and write down what was measured, or read it, if that was done with the same settings before.

        Args:
            path: a run folder or a checkpoint file.

        Raises:
            ReldropError: the run has no checkpoint, a file is damaged, or the attribution is not for its network.
        """
        settings = self.settings
        checkpoint = read_checkpoint(path, settings.checkpoint, settings.config)
        folder, label = checkpoint.file.parent, self._label(checkpoint)
        evaluation = None if settings.force else Evaluation.read(folder, self.suite.name)
        if evaluation is not None and all(evaluation.figures.get(key) == value for key, value in label.items()):
            logger.info("%s: evaluated before (force=true evaluates anew)", checkpoint.run)
            return evaluation
        logger.info("%s", checkpoint.name)
        data = self._read(checkpoint)
        model = checkpoint.network(**data.model_kwargs).to(self.fabric.device)
        self.attribution.check(model, data.dummy_input().to(self.fabric.device))
        root = Path(settings.data_dir or str(checkpoint.cfg.data_dir)).expanduser()
        regions = self._regions(data, root)
        with self.fabric.autocast():
            measured, samples = self.suite.measure(
                model,
                data,
                self.attribution,
                regions,
                limit=settings.limit,
                batch_size=settings.batch_size,
                progress=settings.progress,
            )
        facts = {
            "hidden": "pixels" if data.kind == "images" else "points",
            "regions_from": None if regions is None else regions.source,
        }
        figures = {**label, **facts, **measured}
        evaluation = Evaluation(folder, figures, samples)
        with writing(f"into {folder}"):
            evaluation.write(self.suite.name)
            images = self._draw(evaluation, checkpoint, data, model, regions) if settings.figures else {}
        mirror(checkpoint.cfg.get("tracking", {}), folder, evaluation.numbers, images)
        print(_in_words(evaluation.figures))
        logger.info("written to %s", folder / f"{self.suite.name}.json")
        return evaluation

    def _label(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Say of what and how: two evaluations with the same label are alike."""
        run = Record.of(checkpoint.run, checkpoint.cfg, figures={})  # as tables see it
        return {
            "subject": checkpoint.name,
            "weights": hashlib.sha256(checkpoint.file.read_bytes()).hexdigest()[:16],
            "experiment": run.experiment,
            "dataset": run.dataset,
            "backbone": run.backbone,
            "augmentation": run.augmentation,
            "seed": run.seed,
            "setting": run.setting,
            "settings": self.how,
        }

    def _read(self, checkpoint: Checkpoint) -> Data:
        """Read the data of a run, unless they are those of the run before."""
        if self._data is None or self._data[0] != checkpoint.cfg.dataset:
            data = checkpoint.data(self.settings.data_dir).to(self.fabric.device)
            self._data = checkpoint.cfg.dataset, data
        return self._data[1]

    def _regions(self, data: Data, root: Path) -> Regions | None:
        source = self.suite.regions
        if data.kind == "images":
            return find_regions(source, str(root), data)
        if source not in (None, "auto"):
            raise ReldropError(f"suite.regions={source} is for images, but {data.name} has {data.kind}; set it to null")
        return None

    def _draw(
        self, evaluation: Evaluation, checkpoint: Checkpoint, data: Data, model: nn.Module, regions: Regions | None
    ) -> dict[str, Path]:
        from reldrop.figures import figure_of_checkpoint
        from reldrop.plotting.curves import figures_of, save  # matplotlib takes a while

        arrays = {key: values.numpy() for key, values in evaluation.samples.items()}
        arms = {evaluation.figures["augmentation"]: [arrays]}
        figures = figures_of(arms, self.suite.blocks, evaluation.figures["hidden"])
        figures["examples"] = figure_of_checkpoint(checkpoint, data, model, self.attribution, regions)
        return {name: save(figure, evaluation.folder / name) for name, figure in figures.items()}


def _in_words(figures: Mapping[str, Any]) -> str:
    """Say in a few lines what was measured."""
    clean, curves = figures["clean"], figures["curves"]["accuracy"]
    lines = [
        f"clean: top-1 {clean['top1']:.2%}, train - test {clean['generalization_gap']:.2%}, "
        f"RMS calibration error {clean['rms_calibration_error']:.2%}, AURRA {clean['aurra']:.2%}",
        f"area under the accuracy when most relevant goes first {curves['most']:.2%}, least {curves['least']:.2%}, "
        f"random {curves['random']:.2%}",
    ]
    if "blocks" in figures:
        means = ", ".join(f"{place} {shares['mean']:.2%}" for place, shares in figures["blocks"].items())
        lines.append(f"mean accuracy under a block: {means}")
    if "regions" in figures:
        regions = figures["regions"]
        lines.append(
            f"inside the regions of {regions['samples']} samples: mass {regions['mass_accuracy']:.2%}, "
            f"rank {regions['rank_accuracy']:.2%}, pointing game {regions['pointing_game']:.2%}"
        )
    lines.append(
        f"spread: Gini {figures['spread']['gini']:.3f}, effective share {figures['spread']['effective_share']:.2%}"
    )
    return "\n".join(lines)

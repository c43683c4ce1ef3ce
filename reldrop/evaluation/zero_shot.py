"""The zero-shot suite: a network that was trained on ImageNet, on ImageNet-A, -R and -O, and its calibration."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reldrop.data.paths import Files
from reldrop.evaluation.imagenet_classes import SETS, class_indices
from reldrop.evaluation.imagenet_models import EvalModel, Predict, make_predict_fn
from reldrop.evaluation.imagenet_sets import find_set, find_val, subset
from reldrop.evaluation.suite import Options, Result, Subject, Suite
from reldrop.metrics.accuracy import confidences, ranks, restrict, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.detection import anomaly_scores, detection
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import checked

logger = logging.getLogger("reldrop")

NAMES = (*SETS, "imagenet_val")


@dataclass
class Predictions:
    """What is kept of the samples of a set, batch by batch: of all that is measured, nothing depends on the batches."""

    confidence: list[Tensor] = field(
        default_factory=list
    )  # softmax, the largest of the classes that count, float64 (b,)
    rank: list[Tensor] = field(default_factory=list)  # of the true class among them, int64 (b,)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits (b, c) and labels (b,)."""
        self.confidence.append(confidences(logits).cpu())
        self.rank.append(ranks(logits, labels).cpu())

    def samples(self) -> dict[str, Tensor]:
        """Return confidence and rank, (N,) each."""
        return {"confidence": torch.cat(self.confidence), "rank": torch.cat(self.rank)}

    def figures(self) -> dict[str, float]:
        """Return the accuracies and the calibration, all in [0, 1]."""
        confidence, rank = self.samples().values()
        return {
            "images": len(rank),
            "top1": top_k(rank, 1),
            "top5": top_k(rank, 5),
            "rms_calibration_error": rms_calibration_error(confidence, rank == 0),
            "rms_calibration_error_public_script": rms_calibration_error(confidence, rank == 0, skip_last_bin=True),
            "aurra": aurra(confidence, rank == 0),
        }


@checked
@dataclass(frozen=True)
class ZeroShot(Suite):
    """ImageNet-A, -R, -O and val, as far as they are there."""

    name: ClassVar[str] = "zero_shot"
    settings: ClassVar[tuple[str, ...]] = ("suite", "preprocessing", "limit", "precision")

    imagenet_a: str  # folder with a folder for each class, relative to the data's or absolute
    imagenet_r: str
    imagenet_o: str
    val: Sequence[str]  # folders to look for ImageNet's val images in; the first that exists is read

    def find(self, root: Path, limit: int | None = None) -> tuple[dict[str, Files], list[str]]:
        """Return the images of each set there is, and the names of those that are not there.

        Args:
            root: folder that holds the data sets.
            limit: at most that many images of each set; None for all.

        Raises:
            ReldropError: there is none, or one has classes that do not belong to it.
        """
        folders = {name: root / getattr(self, name) for name in SETS}
        found = {name: find_set(folder, name) for name, folder in folders.items()}
        found["imagenet_val"] = find_val([root / folder for folder in self.val], [root])
        sets = {name: subset(files, limit) for name, files in found.items() if files is not None}
        if not sets:
            raise ReldropError(
                f"none of {', '.join([*folders.keys(), *self.val])} found in {root}; set data_dir=PATH (or the environment "
                "variable RELDROP_DATA) to the folder that holds them"
            )
        return sets, [name for name in found if name not in sets]

    def conditions(self, options: Options) -> dict[str, Any]:
        """Return how many images of each set there are."""
        return {"sets": {name: len(files) for name, files in self._find(options)[0].items()}}

    def evaluate(self, subject: Subject, options: Options) -> Result:
        """Measure a network on the sets that are there.

        Raises:
            ReldropError: it is none for the 1,000 classes of ImageNet, or takes other images.
        """
        sets, missing = self._find(options)
        model = EvalModel.load(subject, options.preprocessing)
        logger.info("%s: %s", subject.name, model.preprocessing.description)
        figures, samples = self.measure(sets, make_predict_fn(model, subject.name, options))
        if missing := [*missing, *(name for name in sets if name not in figures)]:
            logger.info("not evaluated, because images are missing in data_dir: %s", ", ".join(missing))
        return Result({"preprocessing": model.preprocessing.description, **figures, "missing": missing}, samples)

    def _find(self, options: Options) -> tuple[dict[str, Files], list[str]]:
        root = options.data_dir or Path(os.environ.get("RELDROP_DATA", "data")).expanduser()
        return self.find(root, options.limit)

    def measure(
        self, sets: Mapping[str, Files], predict: Predict
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
        """Return the figures of each set, and what was measured of each image, SET/KEY -> (N,).

        All figures but the numbers of images are in [0, 1] or differences of such. ImageNet-R comes with the accuracy on
        val images of its 200 classes, among these 200 classes. ImageNet-O needs the val images of its own 200 classes as
        in-distribution; without them it has no figures.

        Args:
            sets: what `find` found.
            predict: yields the logits (b, 1000) and labels (b,) of some files, in batches of any size.
        """
        predictions = {name: Predictions() for name in ("imagenet_a", "imagenet_r", "imagenet_val") if name in sets}
        for name in ("imagenet_a", "imagenet_r"):
            for logits, labels in predict(sets[name], name) if name in sets else ():
                predictions[name].add(*restrict(logits, labels, class_indices(name).to(labels.device)))
        of_r, known, unknown = Predictions(), [], []
        for logits, labels in predict(sets["imagenet_val"], "imagenet_val") if "imagenet_val" in sets else ():
            predictions["imagenet_val"].add(logits, labels)
            r, o = (class_indices(name).to(labels.device) for name in ("imagenet_r", "imagenet_o"))
            inside = torch.isin(labels, r)
            of_r.add(*restrict(logits[inside], labels[inside], r))
            known.append(anomaly_scores(logits[torch.isin(labels, o)], o).cpu())
        figures = {name: of_set.figures() for name, of_set in predictions.items()}
        samples = {f"{name}/{key}": each for name, of in predictions.items() for key, each in of.samples().items()}
        if "imagenet_r" in figures and any(map(len, of_r.rank)):
            clean = top_k(torch.cat(of_r.rank), 1)
            figures["imagenet_r"] |= {"val_top1": clean, "difference": clean - figures["imagenet_r"]["top1"]}
        if "imagenet_o" in sets and any(map(len, known)):
            classes = class_indices("imagenet_o")
            for logits, _ in predict(sets["imagenet_o"], "imagenet_o"):
                unknown.append(anomaly_scores(logits, classes.to(logits.device)).cpu())
            scores = {"score": torch.cat(unknown), "val_score": torch.cat(known)}
            images = dict(zip(("images", "val_images"), map(len, scores.values()), strict=True))
            figures["imagenet_o"] = {**images, **detection(*scores.values())}
            samples |= {f"imagenet_o/{key}": values for key, values in scores.items()}
        return figures, samples

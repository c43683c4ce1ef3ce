"""The zero-shot suite: a network that was trained on ImageNet, on ImageNet-A, -R and -O, and its calibration."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reldrop.data.images.folders import Files
from reldrop.evaluation.imagenet_classes import SETS, class_indices
from reldrop.evaluation.imagenet_sets import find_set, find_val, some
from reldrop.metrics.accuracy import confidences, ranks, restrict, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.detection import anomaly_scores, detection
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import format_columns
from reldrop.utils.types import checked

Predict = Callable[[Files, str], Iterator[tuple[Tensor, Tensor]]]  # (files, title) -> logits (b, 1000), labels (b,)
TITLES = {**SETS, "imagenet_val": "ImageNet val"}
COLUMNS = {
    "top1": "top-1",
    "top5": "top-5",
    "rms_calibration_error": "RMS calibration error",
    "rms_calibration_error_public_script": "without last bin",
    "aurra": "AURRA",
}


@dataclass
class Outcomes:
    """What is kept of the samples of a set, batch by batch: of all that is measured, nothing depends on the batches.

    Attributes:
        confidence: largest softmax probability over the classes that count, float64 (b,).
        rank: of the true class among them, int64 (b,); 0 is a correct prediction.
    """

    confidence: list[Tensor] = field(default_factory=list)
    rank: list[Tensor] = field(default_factory=list)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits (b, c) and labels (b,)."""
        self.confidence.append(confidences(logits).cpu())
        self.rank.append(ranks(logits, labels).cpu())

    def figures(self) -> dict[str, float]:
        """Return the accuracies and the calibration, all in [0, 1]."""
        confidence, rank = torch.cat(self.confidence), torch.cat(self.rank)
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
class ZeroShot:
    """ImageNet-A, -R, -O and val, as far as they are there.

    Attributes:
        imagenet_a: folder of ImageNet-A, with a folder for each class, relative to the data's or absolute.
        imagenet_r: likewise of ImageNet-R.
        imagenet_o: likewise of ImageNet-O.
        val: folders to look for ImageNet's val images in; the first that exists is read.
    """

    name: ClassVar[str] = "zero_shot"

    imagenet_a: str
    imagenet_r: str
    imagenet_o: str
    val: Sequence[str]

    def find(self, root: Path, limit: int | None = None) -> tuple[dict[str, Files], list[str]]:
        """Return the images of each set there is, and the names of those that are not there.

        Args:
            root: folder that the data sets lie in.
            limit: at most that many images of each set; None for all.

        Raises:
            ReldropError: there is none, or one has classes that do not belong to it.
        """
        folders = {name: root / getattr(self, name) for name in SETS}
        found = {name: find_set(folder, name) for name, folder in folders.items()}
        found["imagenet_val"] = find_val([root / folder for folder in self.val], [root])
        sets = {name: some(files, limit) for name, files in found.items() if files is not None}
        if not sets:
            raise ReldropError(
                f"none of {', '.join([*folders.keys(), *self.val])} found in {root}; set data_dir=PATH (or the environment "
                "variable RELDROP_DATA) to the folder that holds them"
            )
        return sets, [name for name in found if name not in sets]

    def measure(self, sets: Mapping[str, Files], predict: Predict) -> dict[str, dict[str, Any]]:
        """Return the figures of each set, all but the numbers of images in [0, 1] or differences of such.

        ImageNet-R comes with the accuracy on val images of its 200 classes, among these 200 classes. ImageNet-O needs
        the val images of its own 200 classes as in-distribution; without them it has no figures.

        Args:
            sets: what `find` found.
            predict: yields the logits (b, 1000) and labels (b,) of some files, in batches of any size.
        """
        results: dict[str, dict[str, Any]] = {}
        for name in ("imagenet_a", "imagenet_r"):
            if name in sets:
                outcomes = Outcomes()
                for logits, labels in predict(sets[name], TITLES[name]):
                    outcomes.add(*restrict(logits, labels, class_indices(name).to(labels.device)))
                results[name] = outcomes.figures()
        known: list[Tensor] = []
        if "imagenet_val" in sets:
            everything, of_r = Outcomes(), Outcomes()
            for logits, labels in predict(sets["imagenet_val"], TITLES["imagenet_val"]):
                everything.add(logits, labels)
                r, o = (class_indices(name).to(labels.device) for name in ("imagenet_r", "imagenet_o"))
                inside = torch.isin(labels, r)
                of_r.add(*restrict(logits[inside], labels[inside], r))
                known.append(anomaly_scores(logits[torch.isin(labels, o)], o).cpu())
            results["imagenet_val"] = everything.figures()
            if "imagenet_r" in results and any(map(len, of_r.rank)):
                clean = top_k(torch.cat(of_r.rank), 1)
                results["imagenet_r"] |= {"val_top1": clean, "difference": clean - results["imagenet_r"]["top1"]}
        if "imagenet_o" in sets and any(map(len, known)):
            classes = class_indices("imagenet_o")
            predicted = predict(sets["imagenet_o"], TITLES["imagenet_o"])
            unknown = torch.cat([anomaly_scores(logits, classes.to(logits.device)).cpu() for logits, _ in predicted])
            scores = detection(unknown, torch.cat(known))
            results["imagenet_o"] = {"images": len(unknown), "val_images": sum(map(len, known)), **scores}
        return results

    def table(self, results: Mapping[str, Mapping[str, Any]]) -> str:
        """Return the figures as text, in percent."""
        lines = [["set", "images", *COLUMNS.values()]]
        for name in ("imagenet_a", "imagenet_r", "imagenet_val"):
            if name in results:
                shares = (_percent(results[name][key]) for key in COLUMNS)
                lines.append([TITLES[name], str(results[name]["images"]), *shares])
        text = format_columns(lines, "| ", " | ", " |") if len(lines) > 1 else []
        r, o = results.get("imagenet_r", {}), results.get("imagenet_o")
        if "val_top1" in r:
            text.append(
                f"ImageNet-R top-1 {_percent(r['top1'])}, ImageNet val of the same 200 classes {_percent(r['val_top1'])}, "
                f"difference {_percent(r['difference'])}"
            )
        if o is not None:
            text.append(
                f"ImageNet-O AUPR {_percent(o['aupr'])}, AUROC {_percent(o['auroc'])}, FPR95 {_percent(o['fpr95'])} "
                f"({o['images']} out-of-distribution images, {o['val_images']} in-distribution)"
            )
        return "\n".join(text)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"  # NaN, for want of images

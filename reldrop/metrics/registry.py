"""Title, unit and direction of every figure that is logged or evaluated, and the one printer of figures.

A key of what a run logs has a section, e.g. test/top1; one of an evaluation is dotted, e.g. clean.top1. Where several files
meet, the name of the file comes first, e.g. evaluation.clean.top1: `find` takes either. A run brings those of its own with it,
see `learn`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from reldrop.utils.nested import numbers

Unit = Literal["percent", "plain"]
Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """Title, unit and direction of a figure.

    Attributes:
        title: for tables and plots, without the unit.
        unit: percent of a share in [0, 1], or of a difference of two shares; or plain.
        better: which direction is better; none where neither is.
    """

    title: str
    unit: Unit = "plain"
    better: Better = "none"

    @property
    def label(self) -> str:
        """The title with its unit."""
        return f"{self.title} (%)" if self.unit == "percent" else self.title

    @property
    def scale(self) -> float:
        """What a value is multiplied by to have the unit."""
        return 100.0 if self.unit == "percent" else 1.0

    def format(self, value: float, signed: bool = False) -> str:
        """Return a value in its unit, percent with two decimals, others with four digits; "-" if it is not defined."""
        if math.isnan(value):
            return "-"
        return f"{self.scale * value:{'+' if signed else ''}{'.2f' if self.unit == 'percent' else '.4g'}}"


SPLITS = ("train", "validation", "test")
SECTIONS = {*SPLITS, "occlusion", "attribution", "speed", "step"}  # of what a run logs
# Key -> metric. A * in a key matches a part of a family's keys, e.g. the set; {} in the title is replaced by it.
METRICS: dict[str, Metric] = {
    # of an epoch or a summary; accuracies on clean inputs
    **{f"{split}/top1": Metric(f"{split} accuracy", "percent", "higher") for split in ("train", "validation")},
    **{f"{split}/top5": Metric(f"{split} top-5 accuracy", "percent", "higher") for split in SPLITS},
    **{f"{split}/class_mean": Metric(f"{split} mean class accuracy", "percent", "higher") for split in SPLITS},
    "test/top1": Metric("test, last", "percent", "higher"),
    "test/best_top1": Metric("test, best", "percent", "higher"),
    "test/selected_top1": Metric("test, selected by validation", "percent", "higher"),
    "test/class_mean": Metric("class mean, last", "percent", "higher"),
    "test/best_top5": Metric("test top-5, best", "percent", "higher"),
    "test/selected_top5": Metric("test top-5, selected by validation", "percent", "higher"),
    "test/best_class_mean": Metric("class mean, best", "percent", "higher"),
    "test/selected_class_mean": Metric("class mean, selected by validation", "percent", "higher"),
    "test/generalization_gap": Metric("train - test", "percent", "lower"),
    "train/loss": Metric("training loss", "plain", "lower"),
    "train/occluded_share": Metric("occluded", "percent"),
    "lr": Metric("learning rate"),
    "step/loss": Metric("loss of a step", "plain", "lower"),
    "step/occluded_share": Metric("occluded in a step", "percent"),
    "step/lr": Metric("learning rate"),
    "attribution/conservation": Metric("relevance over logit"),
    "attribution/share_of_time": Metric("time for attribution", "percent", "lower"),
    "attribution/guidance_gain": Metric("guidance gain", "plain", "higher"),
    "attribution/gini": Metric("Gini index"),
    "speed/samples_per_second": Metric("samples per second", "plain", "higher"),
    "occlusion/block_relevant": Metric("block, relevant", "percent", "higher"),
    "occlusion/block_random": Metric("block, random", "percent", "higher"),
    "occlusion/most": Metric("area, most first", "percent", "higher"),
    "occlusion/least": Metric("area, least first", "percent", "higher"),
    "occlusion/random": Metric("area, random", "percent", "higher"),
    "occlusion/least_minus_most": Metric("area, least - most", "percent"),
    # of an evaluation by the robustness suite
    "clean.top1": Metric("test accuracy", "percent", "higher"),
    "clean.top5": Metric("top-5 test accuracy", "percent", "higher"),
    "clean.class_mean": Metric("mean class accuracy", "percent", "higher"),
    "clean.train_top1": Metric("train accuracy", "percent", "higher"),
    "clean.generalization_gap": Metric("train - test accuracy", "percent", "lower"),
    "clean.rms_calibration_error": Metric("RMS calibration error", "percent", "lower"),
    "clean.aurra": Metric("AURRA", "percent", "higher"),
    "curves.accuracy.least_minus_most": Metric("area, least - most", "percent"),
    "curves.accuracy.*": Metric("area, {}", "percent", "higher"),
    "curves.probability.least_minus_most": Metric("area of probability, least - most", "percent"),
    "curves.probability.*": Metric("area of probability, {}", "percent", "higher"),
    "blocks.*.mean": Metric("block, {}", "percent", "higher"),
    "blocks.*.0.*": Metric("block, {}, area 0.{}", "percent", "higher"),
    "regions.mass_accuracy": Metric("mass accuracy", "percent", "higher"),
    "regions.rank_accuracy": Metric("rank accuracy", "percent", "higher"),
    "regions.pointing_game": Metric("pointing game", "percent", "higher"),
    "regions.relevance_per_area": Metric("relevance per area", "plain", "higher"),
    "regions.area": Metric("area of the region", "percent"),
    "spread.gini": Metric("Gini index of relevance"),
    "spread.effective_features": Metric("effective features"),
    "spread.effective_share": Metric("effective share", "percent"),
    # of an evaluation by the zero-shot suite
    "imagenet_*.top1": Metric("ImageNet-{}", "percent", "higher"),
    "imagenet_*.top5": Metric("ImageNet-{}, top-5", "percent", "higher"),
    "imagenet_*.val_top1": Metric("ImageNet val, classes of ImageNet-{}", "percent", "higher"),
    "imagenet_*.difference": Metric("ImageNet val - ImageNet-{}, same classes", "percent", "lower"),
    "imagenet_*.rms_calibration_error": Metric("ImageNet-{}, RMS calibration error", "percent", "lower"),
    "imagenet_*.rms_calibration_error_public_script": Metric(
        "ImageNet-{}, RMS calibration error without last bin", "percent", "lower"
    ),
    "imagenet_*.aurra": Metric("ImageNet-{}, AURRA", "percent", "higher"),
    "imagenet_*.aupr": Metric("ImageNet-{}, AUPR", "percent", "higher"),
    "imagenet_*.auroc": Metric("ImageNet-{}, AUROC", "percent", "higher"),
    "imagenet_*.fpr95": Metric("ImageNet-{}, FPR95", "percent", "lower"),
    **{key: Metric(key.replace("_", " ")) for key in ("epoch", "epochs", "step", "steps", "samples", "images")},
    **{key: Metric(key.replace("_", " ")) for key in ("train_samples", "test_samples", "val_images")},
}
OURS = frozenset(METRICS)  # without those that `learn` adds
WORDS = {  # for members of families
    "most": "most relevant first",
    "least": "least relevant first",
    "relevant": "most relevant",
    "a": "A",
    "r": "R",
    "o": "O",
}
# In files of earlier versions: parts of keys, and keys of a run.
RENAMED = {"generalisation_gap": "generalization_gap", "centre": "center"}
FORMER = {
    "best_test_top1": "test/best_top1",
    "selected_test_top1": "test/selected_top1",
    "best_test_class_mean": "test/best_class_mean",
    "generalization_gap": "test/generalization_gap",
    "occluded_share": "train/occluded_share",
    "conservation": "attribution/conservation",
    "attribution_share": "attribution/share_of_time",
    "relevance_gini": "attribution/gini",
    "samples_per_second": "speed/samples_per_second",
}


def find(key: str) -> Metric | None:
    """Return the metric of a key, with or without the name of a file before it; None if it is not known."""
    for known in (key, key.partition(".")[2]):
        if known in METRICS:
            return METRICS[known]
        for pattern, metric in METRICS.items():
            if "*" in pattern and (match := re.fullmatch(re.escape(pattern).replace(r"\*", "([^.]+)"), known)):
                return replace(metric, title=metric.title.format(*(WORDS.get(part, part) for part in match.groups())))
    if match := re.fullmatch("(test/)(best|selected)_(.+)", key):  # of a metric of the user's own
        plain = METRICS.get(match[1] + match[3])
        return plain and replace(plain, title=f"{plain.title}, {match[2]}")
    return None


def learn(described: Mapping[str, Mapping[str, Any]]) -> None:
    """Add metrics of the user's own, key -> title, unit and direction, as the summary of a run has them.

    What is known already stays.
    """
    for key, each in described.items():
        METRICS.setdefault(current_key(key), Metric(**each))


def current_key(key: str) -> str:
    """Return the key that a figure has today, of one in a file of an earlier version."""
    if key in METRICS or key.partition("/")[0] in SECTIONS:
        return key
    key = ".".join(RENAMED.get(part, part) for part in key.replace("/", ".").split("."))
    section, _, name = key.partition("_")
    return f"{section}/{name}" if name and section in (*SPLITS, "occlusion") else FORMER.get(key, key)


def describe(figures: Mapping[str, Any]) -> str:
    """Return figures in words, a line for each group, e.g. "test accuracy 71.20 %; AURRA 80.10 %".

    Args:
        figures: numbers by key, perhaps nested; what is no number is left out. One without a metric goes by its key.
    """
    groups: dict[str, list[str]] = {}
    for key, value in numbers(figures).items():
        metric = find(key) or Metric(key)
        percent = " %" if metric.unit == "percent" and not math.isnan(value) else ""
        group = ".".join(key.split(".")[:-1][:2])
        groups.setdefault(group, []).append(f"{metric.title} {metric.format(value)}{percent}")
    return "\n".join("; ".join(parts) for parts in groups.values())

"""Arms side by side: evaluations of several runs, grouped, with differences in pairs of the same seed."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from reldrop.evaluation.evaluator import Evaluation
from reldrop.plotting.curves import dot_figure, figures_of, save
from reldrop.reporting import cells, layouts
from reldrop.reporting.records import Record, read_config
from reldrop.reporting.statistics import Comparison, compare, summarize
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, write_text_atomic, writing
from reldrop.utils.text import format_columns

logger = logging.getLogger("reldrop")

BASELINES = tuple(name for names in cells.BASELINES.values() for name in names)  # what other arms are compared with
# path -> title, factor
METRICS: dict[str, tuple[str, float]] = {
    "clean/top1": ("test accuracy (%)", 100),
    "clean/class_mean": ("mean class accuracy (%)", 100),
    "clean/generalization_gap": ("train - test accuracy (%)", 100),
    "clean/rms_calibration_error": ("RMS calibration error (%)", 100),
    "clean/aurra": ("AURRA (%)", 100),
    "curves/accuracy/most": ("area, most relevant first (%)", 100),
    "curves/accuracy/random": ("area, random order (%)", 100),
    "curves/accuracy/least": ("area, least relevant first (%)", 100),
    "curves/accuracy/least_minus_most": ("area, least - most (%)", 100),
    "blocks/relevant/mean": ("block, most relevant (%)", 100),
    "blocks/random/mean": ("block, random (%)", 100),
    "blocks/center/mean": ("block, center (%)", 100),
    "regions/mass_accuracy": ("mass accuracy (%)", 100),
    "regions/rank_accuracy": ("rank accuracy (%)", 100),
    "regions/pointing_game": ("pointing game (%)", 100),
    "regions/relevance_per_area": ("relevance per area", 1),
    "spread/gini": ("Gini index of relevance", 1),
    "spread/effective_share": ("effective share (%)", 100),
}


def compare_runs(evaluations: Sequence[Evaluation], folder: Path, draw: bool) -> None:
    """Write a table, its figures as JSON, and pictures for each data set and backbone, and print the tables.

    Args:
        evaluations: of several runs, all made with the same settings.
        folder: where to; each contest has a folder of its own in it.
        draw: whether to draw pictures.

    Raises:
        ReldropError: runs that are to be compared were tested on other samples, or a file cannot be written.
    """
    contests: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for evaluation in evaluations:
        contests[tuple(evaluation.figures[key] for key in ("experiment", "dataset", "backbone"))].append(evaluation)
    for (experiment, dataset, backbone), members in contests.items():
        if len(members) == 1:
            continue
        _check_same_samples(members)
        arms = group(members)
        place = folder / f"{experiment}-{backbone}"
        text = table(arms)
        with writing(f"into {place}", "set output=FOLDER"):
            place.mkdir(parents=True, exist_ok=True)
            write_text_atomic(place / "comparison.md", text + "\n")
            write_json_atomic(place / "comparison.json", record(arms))
            if draw:
                _draw(arms, place)
        print(f"\n{experiment}: {dataset}, {backbone}, {members[0].figures['samples']} test samples\n\n{text}")
        logger.info("written to %s", place)


def group(evaluations: Sequence[Evaluation]) -> dict[str, dict[int, Evaluation]]:
    """Return arms, label -> seed -> evaluation, the baselines first; the label tells settings of one augmentation apart.

    Raises:
        ReldropError: two evaluations are of the same seed of the same arm.
    """
    labels = _labels(evaluations)
    arms: dict[str, dict[int, Evaluation]] = defaultdict(dict)
    order = {name: place for place, name in enumerate(BASELINES)}
    for evaluation in sorted(evaluations, key=lambda one: order.get(one.figures["augmentation"], len(order))):
        label, seed = labels[evaluation.figures["setting"]], evaluation.figures["seed"]
        if seed in arms[label]:
            raise ReldropError(f"{evaluation.folder} and {arms[label][seed].folder} are the same run; leave one out")
        arms[label][seed] = evaluation
    return dict(arms)


def table(arms: Mapping[str, Mapping[int, Evaluation]]) -> str:
    """Return a Markdown table: mean and deviation over seeds of each metric, and the differences to the baselines.

    A difference is the mean over common seeds, with its bootstrap interval; it is bold if interval and paired test
    support it, see `reldrop.reporting.statistics.compare`.
    """
    pairs = [(label, base) for label in arms for base in arms if base in BASELINES and label not in BASELINES]
    pairs += [(base, "none") for base in arms if base in BASELINES[1:] and "none" in arms]
    header = ["metric", *(f"{label} (n={len(runs)})" for label, runs in arms.items())]
    header += [f"{label} - {base}" for label, base in pairs]
    lines = [header]
    for path, (title, factor) in METRICS.items():
        values = {label: _values(runs, path, factor) for label, runs in arms.items()}
        if any(values.values()):
            means = [_mean(list(of_arm.values())) for of_arm in values.values()]
            lines.append([title, *means, *(_difference(compare(values[label], values[base])) for label, base in pairs)])
    return "\n".join(format_columns(lines, "| ", " | ", " |"))


def record(arms: Mapping[str, Mapping[int, Evaluation]]) -> dict[str, Any]:
    """Return what the table was made of: settings, and for each arm its runs and their figures."""
    first = next(iter(next(iter(arms.values())).values()))
    return {
        "settings": first.figures["settings"],
        "arms": {
            label: {
                str(seed): {"subject": one.figures["subject"], "weights": one.figures["weights"], **one.numbers}
                for seed, one in sorted(runs.items())
            }
            for label, runs in arms.items()
        },
    }


def _labels(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Return hash of a setting -> its augmentation and, where several have that, the values in which they differ."""
    members: dict[str, dict[str, Path]] = defaultdict(dict)
    for evaluation in evaluations:
        members[evaluation.figures["augmentation"]][evaluation.figures["setting"]] = evaluation.folder
    labels = {}
    for name, folders in members.items():
        if len(folders) == 1:
            labels[next(iter(folders))] = name
            continue
        try:
            configs = [OmegaConf.to_container(read_config(folder)) for folder in folders.values()]
            records = [Record.of("", config, figures={}) for config in configs]
        except ReldropError:  # checkpoint files with a configuration from elsewhere
            labels |= {setting: f"{name} {setting}" for setting in folders}
            continue
        keys = layouts.differing_keys(records)
        for setting, record in zip(folders, records, strict=True):
            values = (f"{layouts.shown_key(key)} {layouts.shown_value(record, key)}" for key in keys)
            labels[setting] = f"{name}, {', '.join(values)}"
    return labels


def _check_same_samples(evaluations: Sequence[Evaluation]) -> None:
    labels = evaluations[0].samples["clean/label"]
    for other in evaluations[1:]:
        if not torch.equal(labels, other.samples["clean/label"]):
            raise ReldropError(
                f"{evaluations[0].folder} and {other.folder} have other test samples; compare runs with the same "
                "dataset.test_subset on the same data"
            )


def _values(runs: Mapping[int, Evaluation], path: str, factor: float) -> dict[int, float]:
    return {seed: factor * one.numbers[path] for seed, one in runs.items() if path in one.numbers}


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    summary = summarize(values)
    deviation = "" if summary.deviation is None else f" ± {summary.deviation:.2f}"
    return f"{summary.mean:.2f}{deviation}"


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    text = f"{comparison.difference:+.2f}"
    if comparison.interval is not None:
        text += " [{:+.2f}, {:+.2f}]".format(*comparison.interval)
    return f"**{text}**" if comparison.supported else text


def _draw(arms: Mapping[str, Mapping[int, Evaluation]], place: Path) -> None:
    arrays = {
        label: [{key: values.numpy() for key, values in one.samples.items()} for one in runs.values()]
        for label, runs in arms.items()
    }
    first = next(iter(next(iter(arms.values())).values()))
    blocks = first.figures["settings"]["suite"]["blocks"]
    figures = figures_of(arrays, blocks, first.figures["hidden"])
    dots = {
        title: {label: list(_values(runs, path, factor).values()) for label, runs in arms.items()}
        for path, (title, factor) in METRICS.items()
    }
    figures["metrics"] = dot_figure({title: values for title, values in dots.items() if any(values.values())})
    for name, figure in figures.items():
        save(figure, place / name)

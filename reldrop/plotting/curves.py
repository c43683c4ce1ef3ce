"""Figures of evaluations, for papers: occlusion curves, blocks, regions, reliability, and metrics of several runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from types import MappingProxyType

import matplotlib.ticker
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reldrop.evaluation.evaluator import Evaluation
from reldrop.metrics.calibration import rms_calibration_error
from reldrop.metrics.registry import WORDS, find
from reldrop.plotting.layout import PAGE, counted, explain, looked, mean_and_band, panel_row, save, styled
from reldrop.reporting.arms import Look, looks
from reldrop.reporting.comparison import Contest

ORDERS = {order: WORDS.get(order, order) for order in ("most", "random", "least")}
PLACES = {place: WORDS.get(place, place) for place in ("relevant", "random", "center")}
REGIONS = {key: find(f"regions.{key}").title for key in ("mass_accuracy", "rank_accuracy")}
BINS = 10  # of a reliability diagram, each with equally many samples

Samples = Mapping[str, np.ndarray]  # what was measured -> (N, ...)
Curves = Mapping[str, np.ndarray]  # label -> (runs, points), in [0, 1]
Looks = Mapping[str, Look]  # of the labels that are arms
NONE: Looks = MappingProxyType({})


def line_figure(
    panels: Mapping[str, Curves], x: Sequence[float], xlabel: str, ylabel: str, note: str = "", arms: Looks = NONE
) -> Figure:
    """Return a figure with a panel for each title: means over runs, with a band of one standard deviation where several.

    Args:
        panels: title -> label -> curves (runs, points), in [0, 1].
        x: where the points are on the axis, in [0, 1]; both axes are in percent.
        note: goes below.
        arms: how those labels look that are arms.
    """
    percent = 100 * np.asarray(x)

    def draw(axis: Axes, title: str, curves: Curves) -> None:
        for label, values in curves.items():
            mean_and_band(axis, percent, 100 * values, label, arms)
        axis.set(xlabel=xlabel, xlim=(0, percent.max()), title=title if len(panels) > 1 else "")

    return panel_row(panels, draw, ylabel, note)


def histogram_figure(
    panels: Mapping[str, Mapping[str, np.ndarray]], chance: float, note: str = "", arms: Looks = NONE
) -> Figure:
    """Return a figure with a panel for each title: how many samples have which share, and for each label their mean.

    Args:
        panels: title -> label -> shares of samples, in [0, 1]; those that are not defined are left out.
        chance: the mean share of relevance that does not depend on the region.
        note: goes below.
        arms: how those labels look that are arms.
    """
    edges = np.linspace(0, 1, 21)

    def draw(axis: Axes, title: str, shares: Mapping[str, np.ndarray]) -> None:
        for label, values in shares.items():
            values = values[np.isfinite(values)]
            counts = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
            style = {**looked(label, arms), "marker": "", "drawstyle": "steps-post"}
            (line,) = axis.plot(100 * edges[[0, *range(len(edges))]], [0, *counts, 0], **style)
            axis.plot(100 * values.mean(), 0, "^", color=line.get_color(), markersize=5, clip_on=False, zorder=3)
        axis.axvline(100 * chance, color="0.5", linestyle="-", linewidth=0.8, label="share of the area, mean")
        axis.set(xlabel=f"{title} (%)", xlim=(0, 100))

    return panel_row(panels, draw, "samples (%)", note)


def reliability_figure(
    outcomes: Mapping[str, tuple[np.ndarray, np.ndarray]], note: str = "", arms: Looks = NONE
) -> Figure:
    """Return a reliability diagram: accuracy against confidence, in bins of equally many samples.

    DeGroot and Fienberg 1983, "The Comparison and Evaluation of Forecasters", The Statistician 32.

    Args:
        outcomes: label -> confidence (N,), in [0, 1], and whether the predicted class is the true one, bool (N,).
        note: goes below.
        arms: how those labels look that are arms.
    """

    def draw(axis: Axes, title: str, outcomes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        axis.plot([0, 100], [0, 100], color="0.6", linestyle="-", linewidth=0.8, label="calibrated")
        for label, (confidence, correct) in outcomes.items():
            bins = [part for part in np.array_split(np.argsort(confidence, kind="stable"), BINS) if len(part)]
            points = [[100 * values[part].mean() for part in bins] for values in (confidence, correct)]
            error = rms_calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct))
            style = {"marker": "o", "markersize": 3, **looked(label, arms), "markevery": 1}
            axis.plot(*points, **style | {"label": f"{style['label']} (error {100 * error:.1f} %)"})
        axis.set(xlabel="confidence (%)", xlim=(0, 100), aspect="equal")

    figure = panel_row({"": outcomes}, draw, "accuracy (%)", note, height=3.7)
    figure.axes[0].set_ylim(0, 100)
    return figure


@styled
def dot_figure(metrics: Mapping[str, Mapping[str, Sequence[float]]], note: str = "", arms: Looks = NONE) -> Figure:
    """Return a figure with a small panel for each metric: a marker for each run, a bar for the mean of each label."""
    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    labels = list(next(iter(metrics.values())))
    names = [fill(looked(label, arms)["label"], 24) for label in labels]  # longer lines would take the panels' room
    lines = 1 + max(name.count("\n") for name in names)
    figure = Figure(figsize=(PAGE, 0.75 + rows * (0.55 + 0.14 * len(labels) * (lines + 0.2))), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    for number, (axis, (title, values)) in enumerate(zip(axes.flat, metrics.items(), strict=False)):
        for place, label in enumerate(labels):
            style = {"marker": "o", **looked(label, arms), "linestyle": "", "markersize": 3.5, "alpha": 0.7}
            (dots,) = axis.plot(values[label], [place] * len(values[label]), **style)
            if values[label]:
                bar = [np.mean(values[label])] * 2, [place - 0.3, place + 0.3]
                axis.plot(*bar, color=dots.get_color(), linestyle="-", linewidth=1.8)
        axis.set_title(title, fontsize=7)
        axis.set(ylim=(len(labels) - 0.5, -0.5))
        axis.margins(x=0.15)
        axis.set_yticks(range(len(labels)), names if number % columns == 0 else [""] * len(labels))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(axis="x", linestyle="-", linewidth=0.4, color="0.85")
    explain(figure, note)
    return figure


def draw_evaluation(evaluation: Evaluation, **others: Figure) -> dict[str, Path]:
    """Draw an evaluation of a run and write its figures, and others, into its folder; return their PNG files by name."""
    return save({**evaluation_figures(evaluation), **others}, evaluation.folder)


def evaluation_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Return the figures of an evaluation of a run, by the names of their files."""
    return _figures({evaluation.figures["augmentation"]: [evaluation]})


def draw_contest(contest: Contest, folder: Path) -> dict[str, Path]:
    """Draw runs that are compared and write the figures into a folder; return their PNG files by name."""
    return save(contest_figures(contest), folder)


def contest_figures(contest: Contest) -> dict[str, Figure]:
    """Return the figures of runs that are compared, and of all metrics of their table, by the names of their files."""
    arms = {title: list(runs.values()) for title, runs in contest.evaluations.items()}
    metrics = {
        row.labels["metric"]: {
            title: [cell.score.metric.scale * value for value in cell.arm.values(cell.score).values()]
            for title, cell in zip(arms, row.cells, strict=True)
        }
        for row in contest.table.rows
    }
    note = f"Markers: runs; bars: their means. {_tested(next(iter(arms.values()))[0])}."
    return {**_figures(arms), "metrics": dot_figure(metrics, note, looks(list(arms)))}


def _figures(evaluations: Mapping[str, Sequence[Evaluation]]) -> dict[str, Figure]:
    """Return the figures of one run, or of several arms with their runs, by the names of their files."""
    arms = {
        title: [{key: values.numpy() for key, values in run.samples.items()} for run in runs]
        for title, runs in evaluations.items()
    }
    facts, first = (next(iter(each.values()))[0] for each in (evaluations, arms))
    item, blocks = facts.figures["hidden"], facts.figures["settings"]["suite"]["blocks"]
    is_one = len(arms) == 1
    shown = looks(list(arms))
    note = f"{counted(arms)} {_tested(facts)}."
    steps = np.linspace(0, 1, first["curves/most/correct"].shape[1])
    figures = {}
    for key, name, title in (
        ("correct", "accuracy", "accuracy (%)"),
        ("probability", "probability", "probability of the true class (%)"),
    ):
        panels = _panels(arms, ORDERS, partial(_curve, key=key), is_one)
        figures[f"occlusion_{name}"] = line_figure(panels, steps, f"{item} hidden (%)", title, note, shown)
    if blocks:
        panels = _panels(arms, PLACES, _blocks, is_one)
        part = "block's share of the area (%)" if item == "pixels" else "ball's share of the points (%)"
        figures["blocks"] = line_figure(panels, [0, *blocks], part, "accuracy (%)", note, shown)
    pooled = {key: {label: np.concatenate([run[key] for run in runs]) for label, runs in arms.items()} for key in first}
    together = f"{_tested(facts)} of each run" + (
        "" if max(map(len, arms.values())) == 1 else ", those of an arm together"
    )
    if "regions/area" in first:
        shares = {title: pooled[f"regions/{key}"] for key, title in REGIONS.items()}
        area = float(np.nanmean(first["regions/area"]))
        figures["regions"] = histogram_figure(shares, area, f"{together}. Triangles: means.", shown)
    outcomes = {label: (pooled["clean/confidence"][label], pooled["clean/rank"][label] == 0) for label in arms}
    bins = f"Each marker: {100 // BINS} % of the samples, in order of confidence. {together}. Error: RMS calibration error."
    figures["reliability"] = reliability_figure(outcomes, bins, shown)
    return figures


def _tested(evaluation: Evaluation) -> str:
    return f"{evaluation.figures['samples']} test samples"


def _panels(
    arms: Mapping[str, Sequence[Samples]],
    titles: Mapping[str, str],
    curve: Callable[[Samples, str], np.ndarray],
    in_one: bool,
) -> dict[str, Curves]:
    """Return a panel for each title, with a line for each arm; or, of a single arm, one panel with a line for each title."""
    panels = {
        title: {label: np.stack([curve(run, name) for run in runs]) for label, runs in arms.items()}
        for name, title in titles.items()
    }
    return {"": {title: next(iter(curves.values())) for title, curves in panels.items()}} if in_one else panels


def _curve(run: Samples, order: str, key: str) -> np.ndarray:
    return run[f"curves/{order}/{key}"].mean(0)


def _blocks(run: Samples, place: str) -> np.ndarray:
    clean = run["curves/most/correct"][:, :1].mean(0)  # without a block
    return np.concatenate([clean, run[f"blocks/{place}/correct"].mean(0)])

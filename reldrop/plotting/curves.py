"""Figures of evaluations, for papers: occlusion curves, blocks, regions, and metrics of several runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reldrop.evaluation.evaluator import Evaluation
from reldrop.metrics.registry import WORDS, find
from reldrop.plotting.layout import PAGE, panel_row, save, styled
from reldrop.reporting.comparison import Contest

ORDERS = {order: WORDS.get(order, order) for order in ("most", "random", "least")}
PLACES = {place: WORDS.get(place, place) for place in ("relevant", "random", "center")}
REGIONS = {key: find(f"regions.{key}").title for key in ("mass_accuracy", "rank_accuracy")}

Samples = Mapping[str, np.ndarray]  # what was measured -> (N, ...)
Curves = Mapping[str, np.ndarray]  # label -> (runs, points), in [0, 1]


def line_figure(panels: Mapping[str, Curves], x: Sequence[float], xlabel: str, ylabel: str) -> Figure:
    """Return a figure with a panel for each title: means over runs, with a band of one standard deviation where several.

    Args:
        panels: title -> label -> curves (runs, points), in [0, 1].
        x: where the points are on the axis, in [0, 1]; both axes are in percent.
    """
    percent = 100 * np.asarray(x)

    def draw(axis: Axes, title: str, curves: Curves) -> None:
        for label, values in curves.items():
            mean = 100 * np.nanmean(values, 0)
            (line,) = axis.plot(percent, mean, label=label)
            if len(values) > 1:
                deviation = 100 * np.nanstd(values, 0, ddof=1)
                color = line.get_color()
                axis.fill_between(percent, mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0)
        axis.set(xlabel=xlabel, xlim=(0, percent.max()), title=title if len(panels) > 1 else "")

    return panel_row(panels, draw, ylabel)


def histogram_figure(panels: Mapping[str, Mapping[str, np.ndarray]], chance: float) -> Figure:
    """Return a figure with a panel for each title: how many samples have which share, and for each label their mean.

    Args:
        panels: title -> label -> shares of samples, in [0, 1]; those that are not defined are left out.
        chance: the mean share of relevance that does not depend on the region.
    """
    edges = np.linspace(0, 1, 21)

    def draw(axis: Axes, title: str, shares: Mapping[str, np.ndarray]) -> None:
        for label, values in shares.items():
            values = values[np.isfinite(values)]
            counts = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
            steps = [0, *counts, 0]
            (line,) = axis.plot(100 * edges[[0, *range(len(edges))]], steps, drawstyle="steps-post", label=label)
            axis.plot(100 * values.mean(), 0, "^", color=line.get_color(), markersize=5, clip_on=False, zorder=3)
        axis.axvline(100 * chance, color="0.5", linestyle="-", linewidth=0.8, label="share of the area, mean")
        axis.set(xlabel=f"{title} (%)", xlim=(0, 100))

    return panel_row(panels, draw, "samples (%)")


@styled
def dot_figure(metrics: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Return a figure with a small panel for each metric: a dot for each run, a bar for the mean of each label."""
    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    labels = list(next(iter(metrics.values())))
    names = [fill(label, 24) for label in labels]  # longer lines would take the panels' room
    lines = 1 + max(name.count("\n") for name in names)
    figure = Figure(figsize=(PAGE, 0.55 + rows * (0.55 + 0.14 * len(labels) * (lines + 0.2))), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    for number, (axis, (title, values)) in enumerate(zip(axes.flat, metrics.items(), strict=False)):
        for place, label in enumerate(labels):
            (dots,) = axis.plot(values[label], [place] * len(values[label]), "o", markersize=3.5, alpha=0.7)
            if values[label]:
                bar = [np.mean(values[label])] * 2, [place - 0.3, place + 0.3]
                axis.plot(*bar, color=dots.get_color(), linestyle="-", linewidth=1.8)
        axis.set_title(title, fontsize=7)
        axis.set(ylim=(len(labels) - 0.5, -0.5))
        axis.margins(x=0.15)
        axis.set_yticks(range(len(labels)), names if number % columns == 0 else [""] * len(labels))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(axis="x", linestyle="-", linewidth=0.4, color="0.85")
    return figure


def draw_evaluation(evaluation: Evaluation, **others: Figure) -> dict[str, Path]:
    """Draw an evaluation of a run and write its figures, and others, into its folder; return their PNG files by name."""
    figures = _figures({evaluation.figures["augmentation"]: [evaluation]})
    return save({**figures, **others}, evaluation.folder)


def draw_contest(contest: Contest, folder: Path) -> dict[str, Path]:
    """Draw runs that are compared, and all metrics of their table, and write the figures into a folder."""
    arms = {title: list(runs.values()) for title, runs in contest.evaluations.items()}
    metrics = {
        row.labels["metric"]: {
            title: [cell.score.metric.scale * value for value in cell.arm.values(cell.score).values()]
            for title, cell in zip(arms, row.cells, strict=True)
        }
        for row in contest.table.rows
    }
    return save({**_figures(arms), "metrics": dot_figure(metrics)}, folder)


def _figures(evaluations: Mapping[str, Sequence[Evaluation]]) -> dict[str, Figure]:
    """Return the figures of one run, or of several arms with their runs, by the names of their files."""
    arms = {
        title: [{key: values.numpy() for key, values in run.samples.items()} for run in runs]
        for title, runs in evaluations.items()
    }
    facts, first = (next(iter(each.values()))[0] for each in (evaluations, arms))
    item, blocks = facts.figures["hidden"], facts.figures["settings"]["suite"]["blocks"]
    steps = np.linspace(0, 1, first["curves/most/correct"].shape[1])
    hidden = f"{item} hidden (%)"
    names = {"correct": "accuracy", "probability": "true-class probability"}
    curves = {key: _panels(arms, ORDERS, partial(_curve, key=key)) for key in names}
    if len(arms) == 1:  # one panel for accuracy and one for probability, a line for each order
        panels = {names[key]: _one_panel(panel) for key, panel in curves.items()}
        figures = {"occlusion_curves": line_figure(panels, steps, hidden, "mean over samples (%)")}
    else:
        figures = {
            f"occlusion_{key}": line_figure(curves[key], steps, hidden, f"{name} (%)") for key, name in names.items()
        }
    if blocks:
        panels = _panels(arms, PLACES, _blocks)
        panels = {"": _one_panel(panels)} if len(arms) == 1 else panels
        part = "block's share of the area (%)" if item == "pixels" else "ball's share of the points (%)"
        figures["blocks"] = line_figure(panels, [0, *blocks], part, "accuracy (%)")
    if "regions/area" in first:
        shares = {
            title: {label: np.concatenate([run[f"regions/{key}"] for run in runs]) for label, runs in arms.items()}
            for key, title in REGIONS.items()
        }
        figures["regions"] = histogram_figure(shares, float(np.nanmean(first["regions/area"])))
    return figures


def _panels(
    arms: Mapping[str, Sequence[Samples]], titles: Mapping[str, str], curve: Callable[[Samples, str], np.ndarray]
) -> dict[str, Curves]:
    return {
        title: {label: np.stack([curve(run, name) for run in runs]) for label, runs in arms.items()}
        for name, title in titles.items()
    }


def _one_panel(panels: Mapping[str, Curves]) -> Curves:
    """Make one panel of panels with a line each, which their titles then tell apart."""
    return {title: next(iter(curves.values())) for title, curves in panels.items()}


def _curve(run: Samples, order: str, key: str) -> np.ndarray:
    return run[f"curves/{order}/{key}"].mean(0)


def _blocks(run: Samples, place: str) -> np.ndarray:
    clean = run["curves/most/correct"][:, :1].mean(0)  # without a block
    return np.concatenate([clean, run[f"blocks/{place}/correct"].mean(0)])

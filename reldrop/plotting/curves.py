"""Figures of evaluations, for papers: vector files at the width of a column or a page, in colors that all can tell apart."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reldrop.utils.io import atomic_write

COLUMN, PAGE = 3.35, 6.9  # widths in inches
# Okabe and Ito (2008), the dark ones first; lines differ in their dashes, too, for prints without color
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 2)))
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.fonttype": "none",
}
ORDERS = {"most": "most relevant first", "random": "random order", "least": "least relevant first"}
PLACES = {"relevant": "most relevant place", "random": "random place", "center": "center"}

REGIONS = {"mass_accuracy": "positive relevance inside the region", "rank_accuracy": "rank accuracy"}

Samples = Mapping[str, np.ndarray]  # what was measured -> (N, ...)
Curves = Mapping[str, np.ndarray]  # label -> (runs, points), in [0, 1]


def save(figure: Figure, stem: Path) -> Path:
    """Write a figure as stem.pdf and stem.png, and return the latter."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # each table of each font would be reported
    for suffix in (".pdf", ".png"):
        with atomic_write(stem.with_name(stem.name + suffix)) as file, matplotlib.rc_context(STYLE):
            figure.savefig(file, format=suffix[1:], dpi=200)
    return stem.with_name(stem.name + ".png")


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @wraps(draw)
    def styled(*args: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **options)

    return styled


@_styled
def line_figure(panels: Mapping[str, Curves], x: Sequence[float], xlabel: str, ylabel: str) -> Figure:
    """Return a figure with a panel for each title: means over runs, with a band of one standard deviation where several.

    Args:
        panels: title -> label -> curves (runs, points), in [0, 1].
        x: the points' place on the axis, in [0, 1]; both axes are in percent.
    """
    width = COLUMN if len(panels) == 1 else PAGE
    figure = Figure(figsize=(width, 2.5), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for place, (label, values) in enumerate(curves.items()):
            color, dashes = COLORS[place % len(COLORS)], DASHES[place % len(DASHES)]
            mean = 100 * np.nanmean(values, 0)
            axis.plot(100 * np.asarray(x), mean, color=color, linestyle=dashes, label=label)
            if len(values) > 1:
                deviation = 100 * np.nanstd(values, 0, ddof=1)
                axis.fill_between(
                    100 * np.asarray(x), mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0
                )
        axis.set(xlabel=xlabel, xlim=(0, 100 * max(x)))
        if len(panels) > 1:
            axis.set_title(title)
    axes[0].set(ylabel=ylabel, ylim=(0, None))  # of all panels, which share it: only now is the largest value known
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


@_styled
def histogram_figure(panels: Mapping[str, Mapping[str, np.ndarray]], chance: float) -> Figure:
    """Return a figure with a panel for each title: how many samples have which share, and for each label their mean.

    Args:
        panels: title -> label -> shares of samples, in [0, 1]; those that are not defined are left out.
        chance: the mean share of relevance that takes no notice of the region.
    """
    figure = Figure(figsize=(COLUMN if len(panels) == 1 else PAGE, 2.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    edges = np.linspace(0, 1, 21)
    for axis, (title, shares) in zip(axes, panels.items(), strict=True):
        for place, (label, values) in enumerate(shares.items()):
            values = values[np.isfinite(values)]
            counts = np.histogram(values, edges)[0] / max(len(values), 1)
            color, dashes = COLORS[place % len(COLORS)], DASHES[place % len(DASHES)]
            axis.stairs(100 * counts, 100 * edges, color=color, linestyle=dashes, label=label, linewidth=1.3)
            axis.plot(100 * values.mean(), 0, "^", color=color, markersize=5, clip_on=False, zorder=3)
        axis.axvline(100 * chance, color="0.5", linewidth=0.8, label="share of the area, mean")
        axis.set(xlabel=f"{title} (%)", xlim=(0, 100))
    axes[0].set(ylabel="samples (%)", ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


@_styled
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
            color = COLORS[place % len(COLORS)]
            axis.plot(
                values[label], [place] * len(values[label]), "o", color=color, markersize=3.5, alpha=0.7, linewidth=0
            )
            if values[label]:
                axis.plot([np.mean(values[label])] * 2, [place - 0.3, place + 0.3], color=color, linewidth=1.8)
        axis.set_title(title, fontsize=7)
        axis.set(ylim=(len(labels) - 0.5, -0.5))
        axis.margins(x=0.15)
        axis.set_yticks(range(len(labels)), names if number % columns == 0 else [""] * len(labels))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(axis="x", linewidth=0.4, color="0.85")
    return figure


def figures_of(arms: Mapping[str, Sequence[Samples]], blocks: Sequence[float], item: str) -> dict[str, Figure]:
    """Return the figures of one run, or of several arms with their runs, by the names of their files.

    Args:
        arms: label -> what was measured in each of its runs, see `Robustness.measure`.
        blocks: shares of the area that blocks hid.
        item: what is hidden, "pixels" or "points".
    """
    steps = np.linspace(0, 1, next(iter(arms.values()))[0]["curves/most/correct"].shape[1])
    hidden = f"{item} hidden (%)"
    names = {"correct": "accuracy (%)", "probability": "true-class probability (%)"}
    curves = {key: _panels(arms, ORDERS, partial(_curve, key=key)) for key in names}
    if len(arms) == 1:  # one panel for accuracy and one for probability, a line for each order
        panels = {names[key].partition(" (")[0]: _transposed(panel) for key, panel in curves.items()}
        figures = {"occlusion_curves": line_figure(panels, steps, hidden, "mean over samples (%)")}
    else:
        figures = {f"occlusion_{key}": line_figure(curves[key], steps, hidden, names[key]) for key in names}
    if blocks:
        panels = _panels(arms, PLACES, _blocks)
        panels = {"": _transposed(panels)} if len(arms) == 1 else panels
        part = "block's share of the area (%)" if item == "pixels" else "ball's share of the points (%)"
        figures["blocks"] = line_figure(panels, [0, *blocks], part, "accuracy (%)")
    first = next(iter(arms.values()))[0]
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


def _transposed(panels: Mapping[str, Curves]) -> Curves:
    """Of panels with one line each, make a panel with all lines."""
    return {title: next(iter(curves.values())) for title, curves in panels.items()}


def _curve(run: Samples, order: str, key: str) -> np.ndarray:
    return run[f"curves/{order}/{key}"].mean(0)


def _blocks(run: Samples, place: str) -> np.ndarray:
    clean = run["curves/most/correct"][:, :1].mean(0)  # without a block
    return np.concatenate([clean, run[f"blocks/{place}/correct"].mean(0)])

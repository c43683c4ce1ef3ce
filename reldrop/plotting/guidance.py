"""The figure of the guidance suite: effect against cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reldrop.evaluation.evaluator import Evaluation
from reldrop.evaluation.guidance import FLOORS
from reldrop.plotting.layout import PAGE, save, styled

MARKERS = {"pixel, clipped": "v", "pixel": "o", "block": "s"}


@styled
def guidance_figure(panels: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return a figure with a panel for each network: the mean drop of the true class's probability over cost.

    Each guidance is a point; the line joins those that no cheaper one equals. Floors are horizontal.

    Args:
        panels: title -> figures of `reldrop.evaluation.guidance.Guidance.measure`.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PAGE, 0.6 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, figures) in zip(axes.flat, panels.items(), strict=False):
        points = []
        for name, own in figures["guidance"].items():
            of_map, _, placement = name.partition("/")
            drop = own["drop"]["mean"]
            if name in FLOORS:
                axis.axhline(drop, color="0.5", linestyle=":" if name == "random" else "--", linewidth=0.9, label=name)
                continue
            points.append((own["cost"] or 0.0, drop, of_map))
            axis.errorbar(
                own["cost"] or 0.0,
                drop,
                own["drop_interval"]["mean"],
                fmt=MARKERS[placement],
                color={"pixel, clipped": "C1", "pixel": "C0", "block": "C2"}[placement],
                markersize=4,
                elinewidth=0.6,
                alpha=0.85,
                label=placement,
            )
        best: list[tuple[float, float, str]] = []
        for point in sorted(points, key=lambda each: (each[0], -each[1])):
            if not best or point[1] > best[-1][1]:
                best.append(point)
        axis.plot([each[0] for each in best], [each[1] for each in best], color="0.2", linewidth=0.8, linestyle="-")
        for cost, drop, of_map in best:
            axis.annotate(of_map, (cost, drop), xytext=(3, 3), textcoords="offset points", fontsize=6)
        axis.set_title(title, fontsize=8)
        axis.set(xlim=(0, None), ylim=(min(0.0, axis.get_ylim()[0]), None))
    figure.supxlabel("attribution / plain training step", fontsize=8)
    figure.supylabel("drop of the true class's probability", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=len(unique), fontsize=7)
    return figure


def draw_guidance(evaluation: Evaluation) -> dict[str, Path]:
    """Draw an evaluation by the guidance suite and write the figure into its folder; return its PNG file by name."""
    return save({"guidance": guidance_figure({"": evaluation.figures})}, evaluation.folder)

"""Pictures of point clouds: seen from above at an angle, without perspective, near points in front of far ones."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

GREY, ORANGE = "#b8b8b8", "#d55e00"  # told apart by the color-blind as well (Okabe and Ito 2008)


def cloud_grid(
    xyz: Tensor, maps: Mapping[str, Tensor], dropped: Mapping[str, Tensor], titles: list[str], up: int = 1
) -> Figure:
    """Return a figure with a column for each cloud: rows colored by relevance, then one for each dropout.

    Args:
        xyz: (n, N, 3).
        maps: title -> (n, N), relevance: red where it speaks for the class, blue where against it.
        dropped: title -> (n, N), bool; dropped points stand out, those that stay are grey.
        titles: of the n columns.
        up: the axis that points upwards; y in ModelNet.
    """
    views = _project(xyz.detach().float().cpu().numpy(), up)
    rows = len(maps) + len(dropped)
    figure = Figure(figsize=(1.25 * len(titles) + 1.0, 1.3 * rows + 0.5), dpi=200, layout="constrained")
    axes = figure.subplots(rows, len(titles), squeeze=False)
    for line, (label, relevances) in zip(axes, maps.items(), strict=False):
        for axis, (across, upward, depth), values in zip(
            line, views, relevances.detach().float().cpu().numpy(), strict=True
        ):
            order = (-depth).argsort()
            # A few points may hold most of the relevance: the colors of the 2 % with the largest are full.
            limit = np.quantile(abs(values), 0.98) or abs(values).max() or 1.0
            colors = {"c": values[order], "cmap": "coolwarm", "vmin": -limit, "vmax": limit}
            axis.scatter(across[order], upward[order], **colors, **_marks(across))
        label_row(line[0], label)
    for line, (label, masks) in zip(axes[len(maps) :], dropped.items(), strict=True):
        for axis, (across, upward, depth), mask in zip(line, views, masks.cpu().numpy(), strict=True):
            for points, color in ((~mask, GREY), (mask, ORANGE)):
                chosen = points.nonzero()[0]
                chosen = chosen[(-depth[chosen]).argsort()]
                axis.scatter(across[chosen], upward[chosen], c=color, **_marks(across))
        label_row(line[0], label)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
        axis.spines[:].set_visible(False)
    if dropped:
        handles = [axes[-1][0].scatter([], [], c=color, s=8) for color in (ORANGE, GREY)]
        figure.legend(handles, ["dropped", "kept"], loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def label_row(axis: Axes, text: str) -> None:
    """Write to the left of a row of pictures, by its first axis, what it shows, broken into lines."""
    lines = text.replace("_", "\n").replace(", ", ",\n")
    axis.set_ylabel(lines, fontsize=7, rotation=0, ha="right", va="center")


def _marks(points: np.ndarray) -> dict[str, float]:
    return {"s": min(6.0, 1500 / len(points)), "linewidths": 0}


def _project(xyz: np.ndarray, up: int, azimuth: float = 35, elevation: float = 25) -> list[tuple[np.ndarray, ...]]:
    """Return for each cloud what lies to the right, upwards, and away from the eye; angles in degrees."""
    turn, tilt = math.radians(azimuth), math.radians(elevation)
    side, front = (axis for axis in range(3) if axis != up)
    right = xyz[..., side] * math.cos(turn) - xyz[..., front] * math.sin(turn)
    away = xyz[..., side] * math.sin(turn) + xyz[..., front] * math.cos(turn)
    upward = xyz[..., up] * math.cos(tilt) + away * math.sin(tilt)
    depth = away * math.cos(tilt) - xyz[..., up] * math.sin(tilt)
    return list(zip(right, upward, depth, strict=True))

"""Pictures of point clouds: seen from above at an angle, without perspective, near points in front of far ones."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from reldrop.plotting.layout import grid

GRAY, ORANGE = "#b8b8b8", "#d55e00"  # told apart by the color-blind as well (Okabe and Ito 2008)


def cloud_grid(
    xyz: Tensor, maps: Mapping[str, Tensor], dropped: Mapping[str, Tensor], titles: list[str], up: int = 1
) -> Figure:
    """Return a figure with a column for each cloud: rows colored by relevance, then one for each dropout.

    Args:
        xyz: (n, N, 3).
        maps: title -> (n, N), relevance: red where it speaks for the class, blue where against it.
        dropped: title -> (n, N), bool; dropped points stand out, those that stay are gray.
        titles: of the n columns.
        up: the axis that points upwards; y in ModelNet.
    """
    views = project(xyz.detach().float().cpu().numpy(), up)
    rows = {
        label: list(zip(views, values.detach().cpu().numpy(), strict=True))
        for label, values in {**maps, **dropped}.items()
    }
    figure = grid(rows, titles, draw_cloud, side=1.25)
    if dropped:
        handles = [figure.axes[-1].scatter([], [], c=color, s=8) for color in (ORANGE, GRAY)]
        figure.legend(handles, ["dropped", "kept"], loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def draw_cloud(axis: Axes, cloud: tuple[np.ndarray, np.ndarray]) -> None:
    """Draw a cloud as `project` returns it, with its relevance (N,) in colors, or what is dropped of it, bool (N,)."""
    (across, upward, depth), values = cloud
    marks = {"s": min(6.0, 1500 / len(across)), "linewidths": 0}
    if values.dtype == bool:  # the dropped points in front
        order = np.lexsort((-depth, values))
        colors = {"c": np.where(values[order], ORANGE, GRAY)}
    else:
        order = (-depth).argsort()
        # A few points may hold most of the relevance: the colors of the 2 % with the largest are full.
        limit = np.quantile(abs(values), 0.98) or abs(values).max() or 1.0
        colors = {"c": values[order], "cmap": "coolwarm", "vmin": -limit, "vmax": limit}
    axis.scatter(across[order], upward[order], **colors, **marks)
    axis.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    axis.spines[:].set_visible(False)


def project(xyz: np.ndarray, up: int, azimuth: float = 35, elevation: float = 25) -> np.ndarray:
    """Return (n, 3, N): how far each point of (n, N, 3) is to the right, upwards, and away from the eye; angles in degrees."""
    turn, tilt = math.radians(azimuth), math.radians(elevation)
    side, front = (axis for axis in range(3) if axis != up)
    right = xyz[..., side] * math.cos(turn) - xyz[..., front] * math.sin(turn)
    away = xyz[..., side] * math.sin(turn) + xyz[..., front] * math.cos(turn)
    upward = xyz[..., up] * math.cos(tilt) + away * math.sin(tilt)
    depth = away * math.cos(tilt) - xyz[..., up] * math.sin(tilt)
    return np.stack([right, upward, depth], 1)

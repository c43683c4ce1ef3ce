"""Pictures of point clouds: seen from above at an angle, without perspective, near points in front of far ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from reldrop.plotting.layout import Captions, grid

GRAY, ORANGE = "#b8b8b8", "#d55e00"  # told apart by the color-blind as well (Okabe and Ito 2008)
COLORS, FULL = "coolwarm", 0.98  # of relevance: gray in the middle; a few points may have most of it, so those are full
SCALE = f"relevance / its {100 * FULL:g} % quantile by size, of each cloud: red for the class, blue against it"


def cloud_grid(
    xyz: Tensor,
    maps: Mapping[str, Tensor],
    dropped: Mapping[str, Tensor],
    titles: Sequence[str],
    captions: Captions | None = None,
    note: str = "",
    up: int = 1,
) -> Figure:
    """Return a figure with a column for each cloud: rows colored by relevance, and one for each dropout.

    Args:
        xyz: (n, N, 3).
        maps: title -> (n, N), relevance: red where it speaks for the class, blue where against it.
        dropped: title -> (n, N), bool; dropped points stand out, those that stay are gray.
        titles: of the n columns.
        captions: below the clouds of a row, see `grid`.
        note: below the figure.
        up: the axis that points upwards; y in ModelNet.
    """
    views = project(xyz.detach().float().cpu().numpy(), up)
    rows = {
        label: list(zip(views, values.detach().cpu().numpy(), strict=True))
        for label, values in {**maps, **dropped}.items()
    }
    marks = "Orange: points that are dropped; gray: those that are kept. " if dropped else ""
    return grid(rows, titles, draw_cloud, captions, (COLORS, SCALE), marks + note)


def draw_cloud(axis: Axes, cloud: tuple[np.ndarray, np.ndarray]) -> None:
    """Draw a cloud as `project` returns it, with its relevance (N,) in colors, or what is dropped of it, bool (N,)."""
    (across, upward, depth), values = cloud
    marks = {"s": min(6.0, 1500 / len(across)), "linewidths": 0}
    if values.dtype == bool:  # the dropped points in front
        order = np.lexsort((-depth, values))
        colors = {"c": np.where(values[order], ORANGE, GRAY)}
    else:
        order = (-depth).argsort()
        limit = full_relevance(values)
        colors = {"c": values[order], "cmap": COLORS, "vmin": -limit, "vmax": limit}
    axis.scatter(across[order], upward[order], **colors, **marks)
    axis.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    axis.spines[:].set_visible(False)


def colored(relevance: np.ndarray) -> np.ndarray:
    """Return the colors of points by their relevance (N,), as `draw_cloud` has them, uint8 (N, 3)."""
    colors = colormaps[COLORS](relevance / full_relevance(relevance) / 2 + 0.5)
    return (255 * colors[:, :3]).round().astype(np.uint8)


def full_relevance(relevance: np.ndarray, share: float = FULL) -> float:
    """Return the relevance with the fullest color, which a few points or pixels exceed."""
    return float(np.quantile(abs(relevance), share)) or float(abs(relevance).max()) or 1.0


def project(xyz: np.ndarray, up: int, azimuth: float = 35, elevation: float = 25) -> np.ndarray:
    """Return (n, 3, N): how far each point of (n, N, 3) is to the right, upwards, and away from the eye; angles in degrees."""
    turn, tilt = math.radians(azimuth), math.radians(elevation)
    side, front = (axis for axis in range(3) if axis != up)
    right = xyz[..., side] * math.cos(turn) - xyz[..., front] * math.sin(turn)
    away = xyz[..., side] * math.sin(turn) + xyz[..., front] * math.cos(turn)
    upward = xyz[..., up] * math.cos(tilt) + away * math.sin(tilt)
    depth = away * math.cos(tilt) - xyz[..., up] * math.sin(tilt)
    return np.stack([right, upward, depth], 1)

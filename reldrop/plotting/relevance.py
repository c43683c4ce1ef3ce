"""Pictures of relevance, one for each input: panels of images; of clouds colored points, and a page on which they turn."""

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from reldrop.plotting.layout import styled
from reldrop.plotting.point_clouds import FULL, colored, draw_cloud, full_relevance, project
from reldrop.utils.io import atomic_write, write_text_atomic
from reldrop.utils.text import plain

PAGE = Path(__file__).with_name("cloud.html")
PAGE_POINTS = 4096  # that can be turned without delay


@dataclass(frozen=True)
class Shown:
    """What is shown of one input.

    Attributes:
        name: of its files.
        values: the image, uint8 (C, H, W), or the points (N, 3).
        relevance: (H, W), or (N,).
        top: the likeliest classes, in words.
        title: of the map.
    """

    name: str
    values: Tensor
    relevance: np.ndarray
    top: str
    title: str

    def __post_init__(self) -> None:
        for key in ("top", "title"):
            object.__setattr__(self, key, plain(getattr(self, key)))


@styled
def write_images(shown: Shown, folder: Path) -> list[Path]:
    """Write NAME.png and return its path: the image, its relevance, red for the class and blue against it, and both."""
    figure = Figure(figsize=(7.2, 2.6), dpi=200, layout="constrained")
    left, middle, right = axes = figure.subplots(1, 3)
    image = shown.values.permute(1, 2, 0).numpy().squeeze()
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    left.set_title(shown.top, fontsize=6)
    limit, said = _limit(shown.relevance, 0.995)
    scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    drawn = middle.imshow(shown.relevance, **scale)
    middle.set_title(shown.title, fontsize=6)
    right.imshow(image if image.ndim == 2 else image.mean(2), cmap="gray", vmin=0, vmax=255)
    right.imshow(shown.relevance, alpha=np.clip(abs(shown.relevance) / limit, 0, 1), **scale)
    right.set_title("relevance on the image", fontsize=6)
    bar = figure.colorbar(drawn, ax=right, shrink=0.8)
    bar.set_label(said, fontsize=5)
    bar.ax.tick_params(labelsize=5)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return [_saved(figure, folder / f"{shown.name}.png")]


@styled
def write_clouds(shown: Shown, folder: Path) -> list[Path]:
    """Write NAME.png, NAME.ply with colors, and NAME.html, on which the cloud is turned with the mouse; return their paths."""
    xyz = shown.values.numpy()
    _, said = _limit(shown.relevance, FULL)
    figure = Figure(figsize=(2.8, 3), dpi=200, layout="constrained")
    axis = figure.subplots()
    draw_cloud(axis, (project(xyz[None], 1)[0], shown.relevance))
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{shown.title}\n{shown.top}\n{said}", fontsize=5)
    colors = colored(shown.relevance)
    written = [
        _saved(figure, folder / f"{shown.name}.png"),
        folder / f"{shown.name}.ply",
        folder / f"{shown.name}.html",
    ]
    properties = [
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {c}" for c in ("red", "green", "blue")),
    ]
    header = [
        "ply",
        "format ascii 1.0",
        f"element vertex {len(xyz)}",
        *properties,
        "property float relevance",
        "end_header",
    ]
    rows = [
        f"{x:.6f} {y:.6f} {z:.6f} {r} {g} {b} {value:.6g}"
        for (x, y, z), (r, g, b), value in zip(xyz, colors, shown.relevance, strict=True)
    ]
    write_text_atomic(written[1], "\n".join([*header, *rows, ""]))
    some = slice(None, None, -(-len(xyz) // PAGE_POINTS))
    points = [
        [*map(float, point.round(4)), *map(int, color)] for point, color in zip(xyz[some], colors[some], strict=True)
    ]
    if len(points) < len(xyz):
        said += f"; {len(points):,} of {len(xyz):,} points are shown"
    words = {"title": _html(f"{shown.title}; {shown.top}"), "scale": _html(said), "points": json.dumps(points)}
    write_text_atomic(written[2], Template(PAGE.read_text(encoding="utf-8")).substitute(words))
    return written


def _limit(relevance: np.ndarray, share: float) -> tuple[float, str]:
    """The relevance with the fullest color, which a few points or pixels exceed, and a sentence about it."""
    limit = full_relevance(relevance, share)
    return limit, f"red for, blue against; full color at {limit:.2g} ({100 * share:g} % quantile)"


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _saved(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    return path

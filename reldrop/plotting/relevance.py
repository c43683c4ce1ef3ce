"""Pictures of relevance, one for each input: panels of images; of clouds colored points, and a page on which they turn."""

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from reldrop.plotting.layout import styled
from reldrop.plotting.point_clouds import draw_cloud, project
from reldrop.utils.io import atomic_write

PAGE = Path(__file__).with_name("cloud.html")


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


@styled
def write_images(shown: Shown, folder: Path) -> list[Path]:
    """Write NAME.png: the image, and its relevance, red for the class and blue against it, and return its path."""
    figure = Figure(figsize=(5.2, 2.7), dpi=200, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(shown.values.permute(1, 2, 0).numpy().squeeze(), cmap="gray", vmin=0, vmax=255)
    left.set_title(shown.top, fontsize=6)
    limit, said = _limit(shown.relevance, 0.995)
    drawn = right.imshow(shown.relevance, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    right.set_title(shown.title, fontsize=6)
    bar = figure.colorbar(drawn, ax=right, shrink=0.8)
    bar.set_label(said, fontsize=5)
    bar.ax.tick_params(labelsize=5)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
    return [_saved(figure, folder / f"{shown.name}.png")]


@styled
def write_clouds(shown: Shown, folder: Path) -> list[Path]:
    """Write NAME.png, NAME.ply with colors, and NAME.html, on which the cloud is turned with the mouse; return their paths."""
    xyz = shown.values.numpy()
    limit, said = _limit(shown.relevance, 0.98)  # as draw_cloud has it
    figure = Figure(figsize=(2.8, 3), dpi=200, layout="constrained")
    axis = figure.subplots()
    draw_cloud(axis, (project(xyz[None], 1)[0], shown.relevance))
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{shown.title}\n{shown.top}\n{said}", fontsize=5)
    colors = (colormaps["coolwarm"](shown.relevance / limit / 2 + 0.5)[:, :3] * 255).round().astype(int)
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
    _text(written[1], "\n".join([*header, *rows, ""]))
    points = [[*map(float, point.round(4)), *map(int, color)] for point, color in zip(xyz, colors, strict=True)]
    words = {"title": _html(f"{shown.title}; {shown.top}"), "scale": _html(said), "points": json.dumps(points)}
    _text(written[2], Template(PAGE.read_text(encoding="utf-8")).substitute(words))
    return written


def _limit(relevance: np.ndarray, share: float) -> tuple[float, str]:
    """The relevance with the fullest color, which a few points or pixels exceed, and a sentence about it."""
    limit = float(np.quantile(abs(relevance), share)) or float(abs(relevance).max()) or 1.0
    return limit, f"red for, blue against; full color at {limit:.2g} ({100 * share:g} % quantile)"


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _saved(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    return path


def _text(path: Path, text: str) -> Any:
    with atomic_write(path) as file:
        file.write(text.encode())

"""What all figures have in common: the style sheet, a grid of pictures, a row of panels, and files."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reldrop.utils.io import atomic_write

STYLE = Path(__file__).with_name("reldrop.mplstyle")
COLUMN, PAGE = 3.35, 6.9  # widths in inches

T = TypeVar("T")


def styled(draw: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function that draws: it does so in the style of this package."""

    @wraps(draw)
    def wrapper(*args: Any, **options: Any) -> T:
        with matplotlib.style.context(STYLE):
            return draw(*args, **options)

    return wrapper


@styled
def save(figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
    """Write figures as NAME.pdf and NAME.png into a folder, and return the latter by name."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # each table of each font would be reported
    for name, figure in figures.items():
        for suffix in ("pdf", "png"):
            with atomic_write(folder / f"{name}.{suffix}") as file:
                figure.savefig(file, format=suffix)
    return {name: folder / f"{name}.png" for name in figures}


@styled
def grid(
    rows: Mapping[str, Sequence[T]], titles: Sequence[str], draw_cell: Callable[[Axes, T], None], side: float = 1.15
) -> Figure:
    """Return a figure of pictures in rows and columns.

    Args:
        rows: label -> what each of the cells shows; a label is broken into lines at "_" and behind commas.
        titles: of the columns.
        draw_cell: draws what a cell shows.
        side: of a cell, in inches.
    """
    size = side * len(titles) + 1.1, side * len(rows) + 0.4
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (label, cells) in zip(axes, rows.items(), strict=True):
        for axis, content in zip(line, cells, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(True)
            draw_cell(axis, content)
        text = label.replace("_", "\n").replace(", ", ",\n")
        line[0].set_ylabel(text, fontsize=7, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure


@styled
def panel_row(panels: Mapping[str, T], draw: Callable[[Axes, str, T], None], ylabel: str) -> Figure:
    """Return a figure of panels side by side, which share the y axis from 0 and the legend below.

    Args:
        panels: title -> what the panel shows.
        draw: draws it, given the title.
        ylabel: of the y axis.
    """
    figure = Figure(figsize=(COLUMN if len(panels) == 1 else PAGE, 2.5), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, content) in zip(axes, panels.items(), strict=True):
        draw(axis, title, content)
    axes[0].set(ylabel=ylabel, ylim=(0, None))  # of all panels: only now is the largest value known
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure

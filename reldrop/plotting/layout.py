"""What all figures have in common: the style sheet, a grid of pictures, panels with notes, looks of arms, and files."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reldrop.reporting.arms import Look
from reldrop.utils.io import atomic_write
from reldrop.utils.text import plain

STYLE = Path(__file__).with_name("reldrop.mplstyle")
COLUMN, PAGE = 3.35, 6.9  # widths in inches
WRONG = "#D55E00"  # of predictions

T = TypeVar("T")
Captions = Mapping[
    str, Sequence[tuple[str, bool]]
]  # row of a grid -> what stands below its cells, and whether it is right


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
    for name, figure in figures.items():
        for suffix in (".pdf", ".png"):
            save_as(figure, folder / f"{name}{suffix}")
    return {name: folder / f"{name}.png" for name in figures}


@styled
def save_as(figure: Figure, file: Path) -> None:
    """Write a figure to a file, in the format that its suffix tells."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # each table of each font would be reported
    with atomic_write(file) as stream:
        figure.savefig(stream, format=file.suffix[1:])


@styled
def grid(
    rows: Mapping[str, Sequence[T]],
    titles: Sequence[str],
    draw_cell: Callable[[Axes, T], None],
    captions: Captions | None = None,
    scale: tuple[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Return a figure of pictures in rows and columns, as wide as a column of a page for up to three, else as a page.

    Args:
        rows: label -> what each of the cells shows; a label is broken into lines at "_", behind commas,
            and where it is long.
        titles: of the columns.
        draw_cell: draws what a cell shows.
        captions: label of a row -> what stands below each of its cells, and whether that is right.
        scale: the colors of relevance, a name of matplotlib's, and what the full ones mean; with it, there is a bar.
        note: below the figure.
    """
    captions = captions or {}
    labels = {label: "\n".join(fill(part, 14) for part in re.split("_|(?<=,) ", plain(label))) for label in rows}
    width = COLUMN if len(titles) <= 3 else PAGE
    longest = max((len(line) for label in labels.values() for line in label.split("\n")), default=0)
    side = (width - 0.1 - 0.055 * longest) / max(len(titles), 1)
    letters = max(4, int(side * 72 / 3.5))  # of 6 points in a cell
    height = side * len(rows) + 0.13 * len(captions) + 0.3 + (0.5 if scale else 0) + (0.25 if note else 0)
    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (label, cells) in zip(axes, rows.items(), strict=True):
        for number, (axis, content) in enumerate(zip(line, cells, strict=True)):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(True)
            draw_cell(axis, content)
            if label in captions:
                text, is_right = captions[label][number]
                axis.set_xlabel(_fitted(text, letters), fontsize=6, labelpad=1.5, color="black" if is_right else WRONG)
        line[0].set_ylabel(labels[label], fontsize=7, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(_fitted(title, letters), fontsize=6.5, pad=2.5)
    if scale:
        colors = ScalarMappable(Normalize(-1, 1), scale[0])
        bar = figure.colorbar(colors, ax=axes, location="bottom", fraction=0.03, aspect=40, pad=0.01, shrink=0.6)
        bar.set_ticks([-1, 0, 1])
        bar.ax.tick_params(labelsize=6, length=2)
        bar.set_label(fill(scale[1], _letters(side * len(titles))), fontsize=6)
    explain(figure, note)
    return figure


@styled
def panel_row(
    panels: Mapping[str, T], draw: Callable[[Axes, str, T], None], ylabel: str, note: str = "", height: float = 2.6
) -> Figure:
    """Return a figure of panels side by side, which share the y axis from 0 and the legend below.

    Args:
        panels: title -> what the panel shows.
        draw: draws it, given the title.
        ylabel: of the y axis.
        note: goes below.
        height: in inches.
    """
    figure = Figure(figsize=(COLUMN if len(panels) == 1 else PAGE, height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, content) in zip(axes, panels.items(), strict=True):
        draw(axis, title, content)
    axes[0].set(ylabel=ylabel, ylim=(0, None))  # of all panels: only now is the largest value known
    explain(figure, note, axes[0])
    return figure


def explain(figure: Figure, note: str, axis: Axes | None = None) -> None:
    """Put the legend of an axis, and a note, below a figure."""
    handles, labels = axis.get_legend_handles_labels() if axis else ([], [])
    if not handles and not note:
        return
    letters = _letters(figure.get_figwidth())
    columns, longest = 4, max(map(len, labels), default=0)
    while columns > 1 and columns * (longest + 8) > letters:
        columns -= 1
    text = fill(plain(note), letters) or None
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=text, title_fontsize=6.5)


def looked(label: str, arms: Mapping[str, Look]) -> dict[str, Any]:
    """Return how the line of a label is drawn, with its name: as the arm's look has it, or as the style sheet has it."""
    if label not in arms:
        return {"label": label}
    look = arms[label]
    line = (0, look.dashes) if look.dashes else "-"
    return {"label": look.title, "color": look.color, "linestyle": line, "marker": look.marker, "markersize": 3}


def mean_and_band(axis: Axes, x: np.ndarray, values: np.ndarray, label: str, arms: Mapping[str, Look]) -> None:
    """Draw the mean of curves (runs, points) and, where there are several, a band of one standard deviation (n - 1)."""
    mean = np.nanmean(values, 0)
    (line,) = axis.plot(x, mean, markevery=max(1, len(x) // 6), **looked(label, arms))
    if len(values) > 1:
        deviation = np.nanstd(values, 0, ddof=1)
        axis.fill_between(x, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.18, linewidth=0)


def counted(arms: Mapping[Any, Sequence[Any]], spread: str = "band") -> str:
    """Return how many runs each arm has, and what is drawn around their means, in words."""
    counts = sorted({len(runs) for runs in arms.values()})
    if counts == [1]:
        return "One run." if len(arms) == 1 else "One run of each (n = 1)."
    number = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"Means of n = {number} runs; {spread}: ± one standard deviation (n - 1)."


def _letters(width: float) -> int:
    """Return how many letters of 6.5 points a line of `width` inches takes."""
    return int(width * 72 / 3.7)


def _fitted(text: str, letters: int) -> str:
    """Shorten a line of text to a number of letters; a share in parentheses at its end stays."""
    text = plain(text)
    start = text.rfind(" (") if text.endswith("%)") else len(text)
    head, share = text[:start], text[start:]
    left = max(letters - len(share), 2)
    return (head if len(head) <= left else f"{head[: left - 1]}…") + share

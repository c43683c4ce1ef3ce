"""Formats of tables: for the terminal, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable
from typing import NamedTuple

from reldrop.reporting.cells import BASELINES, Cell
from reldrop.reporting.layouts import Table
from reldrop.reporting.scores import Score
from reldrop.reporting.statistics import LEAST, Comparison
from reldrop.utils.text import format_columns

LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}
)


class Text(NamedTuple):
    """What stands in a cell, and whether it is the best."""

    text: str
    best: bool = False


def terminal(table: Table) -> str:
    """Return a table in aligned columns, with a star behind what is best, and its notes."""
    lines = [[f"{cell.text} *" if cell.best else cell.text for cell in line] for line in _lines(table)]
    return _joined([*format_columns(lines), "", *legend(table), *_notes(table)])


def markdown(table: Table) -> str:
    """Return a table in Markdown, aligned, with what is best in bold, and its notes."""
    lines = [[_escaped(f"**{cell.text}**" if cell.best else cell.text) for cell in line] for line in _lines(table)]
    notes = [f"- {note}" for note in [*legend(table), *_notes(table, "`{}`")]]
    return _joined([*format_columns(lines, "| ", " | ", " |"), "", *notes])


def latex(table: Table) -> str:
    """Return a tabular of LaTeX with the rules of booktabs; the notes are comments above it."""
    header, *lines = [[_latex(cell) for cell in line] for line in _lines(table)]
    form = "l" * len(table.labels) + "r" * (len(header) - len(table.labels))
    return _joined(
        [
            *(f"% {note}" for note in ["\\usepackage{booktabs}", *legend(table), *_notes(table)]),
            f"\\begin{{tabular}}{{{form}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def comma_separated(table: Table) -> str:
    """Return a line for each cell, with all that is known of it; shares are in percent."""
    labels = [label for label in table.labels if label not in ("augmentation", "score", "seeds")]
    differences = [
        f"{figure}_{name.replace(' ', '_')}" for name in BASELINES for figure in ("minus", "low", "high", "p", "n")
    ]
    own = ["augmentation", "score", "unit", "n", "seeds", "mean", "deviation", "best"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*labels, *own, *differences, "published", "minus_published", "command"])
    for row in table.rows:
        named = dict(zip(table.labels, row.labels, strict=True))
        for cell in row.cells:
            writer.writerow([*(named[label] for label in labels), *_figures(cell)])
    return buffer.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {  # name -> suffix of files, function
    "terminal": (".txt", terminal),
    "markdown": (".md", markdown),
    "latex": (".tex", latex),
    "csv": (".csv", comma_separated),
}


def legend(table: Table) -> list[str]:
    """Return what explains the figures of a table, as far as they are in it."""
    cells = [cell for cell in table.cells if cell.summary is not None]
    lines = ["Mean ± deviation (n - 1) over seeds; accuracies and other shares in percent."]
    comparisons = [cell.comparisons[name] for cell, name in _compared(table) if name in cell.comparisons]
    if comparisons:
        level = f"{100 * comparisons[0].confidence:g} %"
        lines.append(
            f"Differences: mean over the n common seeds [{level} bootstrap interval], p of the paired t test; with n < {LEAST} "
            "nothing can be said."
        )
    if any(cell.is_best for cell in cells):
        lines.append("Marked as best: better than each other arm, by interval and test.")
    return lines


def _lines(table: Table) -> list[list[Text]]:
    """Return header and rows."""
    titles = [f"{table.columns[place]} - {name}" for place, name in table.differences]
    lines = [[*map(Text, [*table.labels, *table.columns, *titles])]]
    for row in table.rows:
        cells = [Text(_mean(cell, "seeds" in table.labels), cell.is_best) for cell in row.cells]
        compared = [(row.cells[place], name) for place, name in table.differences]
        differences = [Text(_difference(cell.score, cell.comparisons.get(name))) for cell, name in compared]
        lines.append([*map(Text, row.labels), *cells, *differences])
    return lines


def _compared(table: Table) -> list[tuple[Cell, str]]:
    return [(row.cells[place], name) for row in table.rows for place, name in table.differences]


def _mean(cell: Cell, is_counted: bool) -> str:
    """Return the mean of a cell with what belongs to it; is_counted: its row tells how many seeds it has."""
    if cell.summary is None:
        ours = "-"
    else:
        n, deviation = cell.summary.n, cell.summary.deviation
        spread = "" if deviation is None else f" ± {cell.score.shown(deviation)}"
        count = "" if is_counted and n == len(cell.arm.runs) else f" (n={n})"
        ours = f"{cell.score.shown(cell.summary.mean)}{spread}{count}"
    if cell.published is None:
        return ours
    published = f"published {_plain(cell.score, cell.published)}"
    if cell.summary is None:
        return f"{ours} ({published})"
    return f"{ours} ({published}, {_plain(cell.score, _minus_published(cell), signed=True)})"


def _difference(score: Score, comparison: Comparison | None) -> str:
    if comparison is None:
        return "-"
    mean = score.shown(comparison.difference, signed=True)
    if comparison.interval is None:
        return f"{mean} (n={comparison.n})"
    low, high = (score.shown(end, signed=True) for end in comparison.interval)
    p_value = "" if comparison.p_value is None else f", p={comparison.p_value:.2g}"
    return f"{mean} [{low}, {high}] (n={comparison.n}{p_value})"


def _plain(score: Score, value: float, signed: bool = False) -> str:
    """A published value is in the table's unit already."""
    return score.shown(value / score.scale, signed)


def _minus_published(cell: Cell) -> float:
    return cell.score.scale * cell.summary.mean - cell.published


def _figures(cell: Cell) -> list[object]:
    scale, summary = cell.score.scale, cell.summary
    values = sorted(cell.arm.values(cell.score)) if cell.arm else []
    line: list[object] = [cell.augmentation, cell.score.key, "percent" if cell.score.is_share else "", len(values)]
    line.append(" ".join(map(str, values)))
    line += [None, None] if summary is None else [_number(scale, summary.mean), _number(scale, summary.deviation)]
    line.append(int(cell.is_best))
    for name in BASELINES:
        comparison = cell.comparisons.get(name)
        low, high = (comparison.interval if comparison else None) or (None, None)
        line += [_number(scale, value) for value in (comparison and comparison.difference, low, high)]
        line += [_number(1, comparison and comparison.p_value), comparison and comparison.n]
    known = summary is not None and cell.published is not None
    return [*line, cell.published, _number(1, _minus_published(cell)) if known else None, cell.command]


def _number(scale: float, value: float | None) -> str | None:
    return None if value is None else f"{scale * value:.6g}"


def _notes(table: Table, quoted: str = "{}") -> list[str]:
    """Return the table's notes, and for each command that fills cells which."""
    notes = list(table.notes)
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for cell in (cell for cell in row.cells if cell.command is not None):
            where = f"{row.example.dataset} {row.example.backbone}"
            arms = lacking.setdefault((where, cell.command), [])
            if cell.augmentation not in arms:
                arms.append(cell.augmentation)
    for (where, command), arms in lacking.items():
        notes.append(f"Missing in {where} {', '.join(arms)}: {quoted.format(command)}")
    return notes


def _latex(cell: Text) -> str:
    text = cell.text.translate(LATEX)
    return f"\\textbf{{{text}}}" if cell.best else text


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _joined(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"

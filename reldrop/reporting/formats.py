"""Formats of tables: for the terminal, Markdown, LaTeX and CSV; and the runs that a table came from."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from reldrop.metrics.registry import Metric
from reldrop.reporting.arms import ARMS
from reldrop.reporting.cells import BASELINES, Cell
from reldrop.reporting.layouts import Row, Table
from reldrop.reporting.statistics import MIN_SEEDS, Comparison
from reldrop.utils.text import format_columns, plain

WIDTH = 100  # of a table in the terminal
PAGE = 82  # letters of footnote size in a line of LaTeX's article
LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "\ufffd": "?"}
)


def terminal(table: Table) -> str:
    """Return a table in aligned columns, with a star behind what is marked, and its notes.

    What all rows have in common stands above it; columns for which WIDTH has no room go on below.
    """
    common, labels = _labels(table)
    lines = _lines(table, "{} *")
    kept = [place for place, title in enumerate(table.labels) if title in labels]
    tables: list[list[str]] = []
    columns: list[int] = []
    for place in range(len(table.labels), len(lines[0])):
        wider = format_columns([[line[each] for each in (*kept, *columns, place)] for line in lines])
        if not columns or max(map(len, wider)) > WIDTH:
            columns = []
            wider = format_columns([[line[each] for each in (*kept, place)] for line in lines])
            tables.append(wider)
        tables[-1] = wider
        columns.append(place)
    shown = [line for each in tables for line in [*each, ""]]
    explained = [part for line in legend(table) for part in textwrap.wrap(line, WIDTH)]
    return _joined([*([common, ""] if common else []), *shown, *explained, *_notes(table)])


def markdown(table: Table) -> str:
    """Return a table in Markdown, aligned, with what is marked in bold, and its notes."""
    lines = _lines(table, "**{}**", _markdown)
    notes = [f"- {note}" for note in [*legend(table), *_notes(table, "`{}`")]]
    return _joined([*format_columns(lines, "| ", " | ", " |"), "", *notes])


def latex(table: Table) -> str:
    """Return a table of LaTeX, to be read with \\input; it needs the package booktabs, and its caption has the notes.

    Rows are grouped by data set and backbone, and what all have in common is in the caption. Columns that do not fit the
    width of a page are further tabulars below.
    """
    common, labels = _labels(table)
    counts = {cell.summary.n for cell in table.cells if cell.summary is not None}
    printed = _lines(table, "{}", counted=len(counts) == 1)
    header, *lines = _lines(table, r"\textbf{{{}}}", _tex, counted=len(counts) == 1)
    grouping = [title for title in labels if title in ("dataset", "backbone")]
    kept = [place for place, title in enumerate(table.labels) if title in labels and title not in grouping]
    parts: list[list[int]] = [[]]
    for column in range(len(table.labels), len(header)):
        columns = [*kept, *parts[-1], column]
        if parts[-1] and sum(max(len(line[place]) for line in printed) + 2 for place in columns) > PAGE:
            parts.append([])
        parts[-1].append(column)
    tabulars = []
    for part in parts:
        rows, group = [], None
        for row, line in zip(table.rows, lines, strict=True):
            if grouping and (own := ", ".join(row.labels[title] for title in grouping)) != group:
                rows += [r"\midrule"] * (group is not None)
                rows.append(rf"\multicolumn{{{len(kept) + len(part)}}}{{l}}{{\textit{{{_tex(own)}}}}} \\")
                group = own
            rows.append(" & ".join(line[place] for place in [*kept, *part]) + r" \\")
        titles = " & ".join(header[place] for place in [*kept, *part]) + r" \\"
        begin = rf"\begin{{tabular}}{{{'l' * len(kept)}{'r' * len(part)}}}"
        tabulars += [begin, r"\toprule", titles, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\par\medskip"]
    first, *others = legend(table)
    if len(counts) == 1:
        first = first.replace("over seeds", f"over n = {counts.pop()} seeds")
    caption = " ".join(
        [f"{table.name[:1].upper()}{table.name[1:]}.", *([f"{common}."] if common else []), first, *others]
    )
    name = re.sub("[^a-z0-9]+", "-", table.name.lower())
    comments = [f"% {note}" for note in [r"\usepackage{booktabs}", *_notes(table)]]
    begin = [r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}", rf"\caption{{{_tex(caption)}}}"]
    return _joined([*comments, *begin, rf"\label{{tab:{name}}}", *tabulars[:-1], r"\end{table}"])


def _tex(text: str) -> str:
    """Return text as LaTeX prints it as it is, with arms by their titles and true minus signs."""
    named = re.sub(r"\w+", lambda word: ARMS[word[0]].title if word[0] in ARMS else word[0], plain(text))
    return re.sub(r"(?<![\w.])-(?=\d)|(?<= )-(?= )", "$-$", named.translate(LATEX))


def _markdown(text: str) -> str:
    """Return text as Markdown shows it as it is; an underscore amid a word needs no escape."""
    return re.sub(r"[\\`*<>|$~&]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\]\()", r"\\\g<0>", text)


def comma_separated(table: Table) -> str:
    """Return a line for each cell, with all its figures; shares are in percent."""
    lines = [_flat(row, cell) for row in table.rows for cell in row.cells]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return plain(buffer.getvalue())


FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {  # name -> suffix of files, function
    "terminal": (".txt", terminal),
    "markdown": (".md", markdown),
    "latex": (".tex", latex),
    "csv": (".csv", comma_separated),
}


def provenance(table: Table, remarks: Sequence[str]) -> dict[str, Any]:
    """Return which runs, settings and code a table came from, as JSON.

    Args:
        table: any table.
        remarks: what was left out of it.
    """
    runs = {run.run: run for cell in table.cells if cell.arm is not None for run in cell.arm.runs.values()}
    code = {(start.get("commit"), start.get("dirty")) for run in runs.values() for start in run.starts}
    return {
        "table": table.name,
        "code": [{"commit": commit, "dirty": dirty} for commit, dirty in sorted(code, key=str)],
        "left_out": list(remarks),
        "runs": [
            {
                "run": run.run,
                "experiment": run.experiment,
                "augmentation": run.augmentation,
                "seed": run.seed,
                "setting": run.setting,
                "config_hash": run.config_hash,
                "conditions": run.conditions,
                "starts": [
                    {key: start.get(key) for key in ("time", "commit", "dirty", "overrides")} for start in run.starts
                ],
            }
            for run in sorted(runs.values(), key=lambda run: run.run)
        ],
    }


def legend(table: Table) -> list[str]:
    """Return the explanations that the figures of a table need."""
    lines = ["Mean ± deviation (n - 1) over seeds; accuracies and other shares in percent."]
    compared = ((row.cells[place], name) for row in table.rows for place, name in table.differences)
    comparisons = [cell.comparisons[name] for cell, name in compared if name in cell.comparisons]
    if comparisons:
        level = f"{100 * comparisons[0].confidence:g} %"
        lines.append(
            f"Differences: mean over the n common seeds [{level} bootstrap interval], p of the paired t test; "
            f"with n < {MIN_SEEDS} nothing can be said."
        )
    if any(cell.is_best for cell in table.cells):
        lines.append("Marked as best: better than each other arm, by interval and test.")
    if table.marks_differences and any(comparison.supported for comparison in comparisons):
        lines.append("Marked differences: supported by interval and test.")
    return lines


def _lines(table: Table, mark: str, escape: Callable[[str], str] = str, counted: bool = False) -> list[list[str]]:
    """Return header and rows.

    Args:
        table: any table.
        mark: the format of what is marked: the best arms, and differences that are supported.
        escape: of every text.
        counted: whether the number of seeds is said elsewhere.
    """

    def shown(text: str, is_marked: bool = False) -> str:
        return mark.format(escape(text)) if is_marked else escape(text)

    titles = [f"{table.columns[place]} - {name}" for place, name in table.differences]
    lines = [[*map(shown, [*table.labels, *table.columns, *titles])]]
    for row in table.rows:
        line = [*map(shown, row.labels.values())]
        line += [shown(_mean(cell, counted or "seeds" in table.labels), cell.is_best) for cell in row.cells]
        for place, name in table.differences:
            comparison = row.cells[place].comparisons.get(name)
            is_marked = table.marks_differences and comparison is not None and comparison.supported
            line.append(shown(_difference(row.cells[place].score.metric, comparison), is_marked))
        lines.append(line)
    return lines


def _labels(table: Table) -> tuple[str, list[str]]:
    """Return what the labels of all rows have in common, as a line, and the labels that tell the rows apart."""
    labels = [title for title in table.labels if title != "setting"]
    if len({tuple(row.labels[title] for title in labels) for row in table.rows}) < len(table.rows):
        labels = table.labels
    common = [
        title
        for title in labels
        if title in ("experiment", "dataset", "backbone", "steps")
        and len({row.labels[title] for row in table.rows}) == 1
    ]
    line = ", ".join(f"{title} {table.rows[0].labels[title]}" for title in common)
    return line, [title for title in labels if title not in common]


def _mean(cell: Cell, is_counted: bool) -> str:
    """Return mean, deviation, number of seeds and published value; is_counted: the row has the number already."""
    if cell.summary is None:
        ours = "-"
    else:
        n, deviation = cell.summary.n, cell.summary.deviation
        spread = "" if deviation is None else f" ± {cell.score.metric.format(deviation)}"
        count = "" if is_counted and n == len(cell.arm.runs) else f" (n={n})"
        ours = f"{cell.score.metric.format(cell.summary.mean)}{spread}{count}"
    if cell.published is None:
        return ours
    published = [f"published {_plain(cell, cell.published)}"]
    if cell.summary is not None:
        published.append(_plain(cell, _minus_published(cell), signed=True))
    return f"{ours} ({', '.join(published)})"


def _difference(metric: Metric, comparison: Comparison | None) -> str:
    if comparison is None:
        return "-"
    mean = metric.format(comparison.difference, signed=True)
    if comparison.interval is None:
        return f"{mean} (n={comparison.n})"
    low, high = (metric.format(end, signed=True) for end in comparison.interval)
    p_value = "" if comparison.p_value is None else f", p={comparison.p_value:.2g}"
    return f"{mean} [{low}, {high}] (n={comparison.n}{p_value})"


def _plain(cell: Cell, value: float, signed: bool = False) -> str:
    """A published value is in the table's unit already."""
    return cell.score.metric.format(value / cell.score.metric.scale, signed)


def _minus_published(cell: Cell) -> float:
    return cell.score.metric.scale * cell.summary.mean - cell.published


def _flat(row: Row, cell: Cell) -> dict[str, object]:
    """Return the figures of a cell by the columns of a CSV file."""
    metric, summary = cell.score.metric, cell.summary

    def number(value: float | None, scale: float = metric.scale) -> str | None:
        return None if value is None else f"{scale * value:.6g}"

    seeds = sorted(cell.arm.values(cell.score)) if cell.arm else []
    line: dict[str, object] = {
        **{title: text for title, text in row.labels.items() if title not in ("augmentation", "score", "seeds")},
        "augmentation": cell.augmentation,
        "score": cell.score.key,
        "unit": "percent" if metric.unit == "percent" else "",
        "n": len(seeds),
        "seeds": " ".join(map(str, seeds)),
        "mean": summary and number(summary.mean),
        "deviation": summary and number(summary.deviation),
        "best": int(cell.is_best),
    }
    for name in BASELINES:
        comparison, end = cell.comparisons.get(name), name.replace(" ", "_")
        low, high = (comparison and comparison.interval) or (None, None)
        line |= {
            f"minus_{end}": comparison and number(comparison.difference),
            f"low_{end}": number(low),
            f"high_{end}": number(high),
            f"p_{end}": comparison and number(comparison.p_value, 1),
            f"n_{end}": comparison and comparison.n,
        }
    both = summary is not None and cell.published is not None
    minus = number(_minus_published(cell), 1) if both else None
    return {**line, "published": cell.published, "minus_published": minus, "command": cell.command}


def _notes(table: Table, quoted: str = "{}") -> list[str]:
    """Return the table's notes, and for each command that fills cells which."""
    lacking: dict[tuple[str, str], dict[str, None]] = {}
    for row in table.rows:
        where = f"{row.example.dataset} {row.example.backbone}"
        for cell in (cell for cell in row.cells if cell.command is not None):
            lacking.setdefault((where, cell.command), {})[cell.augmentation] = None
    missing = (
        f"Missing in {where} {', '.join(arms)}: {quoted.format(command)}" for (where, command), arms in lacking.items()
    )
    return [*table.notes, *missing]


def _joined(lines: list[str]) -> str:
    return plain("\n".join(lines)).rstrip() + "\n"

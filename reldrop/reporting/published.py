"""Published values from a file, shown next to ours."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reldrop.config import CONFIG_PATH
from reldrop.metrics.registry import METRICS, find
from reldrop.reporting.layouts import Table
from reldrop.reporting.records import Record
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import unknown

COLUMNS = ("dataset", "backbone", "augmentation", "metric", "value", "source")


class Published(NamedTuple):
    """A value in the table's unit, which is percent for accuracies, where it is from, and its line in the file."""

    value: float
    source: str
    line: int


Key = tuple[str, ...]  # dataset, backbone, augmentation, metric


def read_published(file: Path) -> dict[Key, Published]:
    """Read a CSV file with the columns dataset, backbone, augmentation, metric, value and source.

    Raises:
        ReldropError: naming file and line, for other columns, a value that is no number, or a cell given twice.
    """
    try:
        with file.open(newline="") as lines:
            reader = csv.reader(lines)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReldropError(f"reference={file} cannot be read ({error})") from error
    header = rows.pop(0)[1] if rows else []
    if tuple(header) != COLUMNS:
        raise ReldropError(f"reference={file} has the columns {','.join(header)}; they must be {','.join(COLUMNS)}")
    values: dict[Key, Published] = {}
    for line, row in rows:
        where = f"{file}, line {line}"
        if len(row) != len(COLUMNS):
            raise ReldropError(f"{where}: it does not have {len(COLUMNS)} values")
        *key, value, source = row
        try:
            published = Published(float(value), source, line)
        except ValueError:
            raise ReldropError(f"{where}: value {value!r} is no number") from None
        if (other := values.setdefault(tuple(key), published)) is not published:
            raise ReldropError(f"{where}: the same cell as in line {other.line}")
    return values


def join(table: Table, published: dict[Key, Published], file: Path, records: Sequence[Record]) -> None:
    """Put published values into the cells of a table; runs of smoke scale get none.

    Values of known cells that have no runs are listed below the table.

    Args:
        file: where the values are from, for messages.
        records: all runs; their names are allowed in the file.

    Raises:
        ReldropError: for a name that neither conf/ nor a run has.
    """
    known = {"metric": {cell.score.key for cell in table.cells}.union(METRICS)}
    for group in COLUMNS[:3]:
        choices = {path.stem for path in Path(CONFIG_PATH, group).glob("[!_]*.yaml")}
        known[group] = choices | {getattr(record, group) for record in records}
    for key, value in published.items():
        for column, name in zip(COLUMNS, key, strict=False):
            if name not in known[column] and not (column == "metric" and find(name)):
                sentence = f"{file}, line {value.line}: {column} {name} is not known"
                raise ReldropError(unknown(sentence, name, known[column]))
    used = set()
    for row in (row for row in table.rows if not row.example.is_smoke):
        for cell in row.cells:
            key = (row.example.dataset, row.example.backbone, cell.augmentation, cell.score.key)
            if key in published:
                cell.published = published[key].value
                used.add(key)
    if sources := sorted({published[key].source for key in used if published[key].source}):
        table.notes.append(f"Published values: {'; '.join(sources)}.")
    if unused := [" ".join(key) for key in published if key not in used]:
        table.notes.append(f"Published, but not in this table: {', '.join(unused)}.")

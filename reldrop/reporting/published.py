"""Published values, from a file that its user fills in, beside our own."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reldrop.config import CONFIG_PATH
from reldrop.reporting.layouts import PAPER, Table
from reldrop.reporting.records import Record
from reldrop.reporting.scores import TITLES
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import unknown

COLUMNS = ("dataset", "backbone", "augmentation", "metric", "value", "source")


@dataclass(frozen=True)
class Published:
    """A line of the file: a value in the table's unit, which is percent for accuracies, and where it is from."""

    line: int
    dataset: str
    backbone: str
    augmentation: str
    metric: str
    value: float
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.dataset, self.backbone, self.augmentation, self.metric


def read_published(file: Path) -> list[Published]:
    """Read a CSV file with the columns dataset, backbone, augmentation, metric, value and source.

    Raises:
        ReldropError: naming file and line, for other columns, a value that is no number, or a cell given twice.
    """
    try:
        with file.open(newline="") as lines:
            reader = csv.DictReader(lines)
            header = tuple(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReldropError(f"reference={file} cannot be read ({error})") from error
    if header != COLUMNS:
        raise ReldropError(f"reference={file} has the columns {','.join(header)}; they must be {','.join(COLUMNS)}")
    values: dict[tuple[str, str, str, str], Published] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise ReldropError(f"{file}, line {line}: it does not have {len(COLUMNS)} values")
        try:
            published = Published(line, **{**row, "value": float(row["value"])})
        except ValueError:
            raise ReldropError(f"{file}, line {line}: value {row['value']!r} is no number") from None
        if (other := values.setdefault(published.key, published)) is not published:
            raise ReldropError(f"{file}, line {line}: the same cell as in line {other.line}")
    return list(values.values())


def join(table: Table, published: Sequence[Published], file: Path, records: Sequence[Record]) -> None:
    """Put published values into the cells of a table; runs of smoke scale get none.

    Values of known cells that have no runs are listed below the table.

    Args:
        records: all runs there are, whose names are known.

    Raises:
        ReldropError: for a name that neither the configuration nor a run has.
    """
    known = _known(table, records)
    for value in published:
        for column, names in known.items():
            if (name := getattr(value, column)) not in names:
                raise ReldropError(unknown(f"{file}, line {value.line}: {column} {name} is not known", name, names))
    values = {value.key: value for value in published}
    used = set()
    for row in table.rows:
        for cell in row.cells:
            key = (row.example.dataset, row.example.backbone, cell.augmentation, cell.score.key)
            if key in values and not row.example.is_smoke:
                cell.published = values[key].value
                used.add(key)
    if sources := sorted({values[key].source for key in used if values[key].source}):
        table.notes.append(f"Published values: {'; '.join(sources)}.")
    if unused := [" ".join(key) for key in values if key not in used]:
        table.notes.append(f"Published, but not in this table: {', '.join(unused)}.")


def _known(table: Table, records: Sequence[Record]) -> dict[str, set[str]]:
    groups = {"dataset": "dataset", "backbone": "backbone", "augmentation": "augmentation"}
    known = {
        name: {file.stem for file in Path(CONFIG_PATH, group).glob("*.yaml")}
        | {getattr(record, name) for record in records}
        for name, group in groups.items()
    }
    metrics = {cell.score.key for cell in table.cells}.union(TITLES, *(scores for *_, scores in PAPER.values()))
    return {**known, "metric": metrics}

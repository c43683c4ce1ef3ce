"""Tables of finished runs: python -m reldrop.tables [RESULTS] [KEY=VALUE ...], and how far a sweep is: ... status [RESULTS]."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from reldrop.reporting.formats import FORMATS
from reldrop.reporting.layouts import PAPER, Table, ablation_table, is_ablation, paper_table, table_of_settings
from reldrop.reporting.provenance import provenance
from reldrop.reporting.published import join, read_published
from reldrop.reporting.records import Record, read_runs, select
from reldrop.reporting.scores import DEFAULT, Score
from reldrop.reporting.status import status_table
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, write_text_atomic, writing
from reldrop.utils.text import unknown

HELP = """\
words:
  status               print how far each run is, finished or not, in place of a table
  RESULTS              the results_dir of the runs (default: results)
  source=wandb:E/P     read the W&B project P of entity E instead of run folders
  paper=LAYOUT         table1 | table2: the paper's, a column for each arm | ablation: a row for each setting, named by the
                       values in which they differ; otherwise a row for each setting
  metric=NAME,...      figures to show, e.g. best_test_top1, test_class_mean, selected_test_top1, or of another file in the
                       run folders, e.g. zero_shot.imagenet_a.top1; differences are those of the first
  better=higher|lower  which direction is better (default: what the name of the metric says)
  reldrop=NAME,...     augmentations in the columns of RelDrop (default: reldrop_block, reldrop_point)
  where=KEY=VALUE      only runs with this setting, may be repeated; VALUE may be several, with * and ?; KEY!=VALUE leaves
                       them out; a run without the key stays. Beside settings: seed, setting (hash), run (folder)
  confidence=0.95      level of intervals and of what is marked as best
  reference=FILE.csv   published values to show beside; columns dataset,backbone,augmentation,metric,value,source, values
                       in percent where the table is
  format=FORMAT        terminal | markdown | latex | csv (default: terminal, or by the suffix of output)
  output=FILE          write the table there, and the runs that it came from to FILE.runs.json; or to a folder every
                       table that the runs allow, in all formats
"""


@dataclass(frozen=True)
class Settings:
    """What the words of the command line say; see `HELP`."""

    results: Path = Path("results")
    source: str | None = None
    paper: str | None = None
    metric: str | None = None
    better: str | None = None
    reldrop: str | None = None
    where: Sequence[str] = ()
    confidence: float = 0.95
    reference: Path | None = None
    format: str | None = None
    output: Path | None = None

    def __post_init__(self) -> None:
        choices = {"paper": (*PAPER, "ablation"), "better": ("higher", "lower"), "format": tuple(FORMATS)}
        for key, known in choices.items():
            if getattr(self, key) not in (None, *known):
                raise ReldropError(f"{key}={getattr(self, key)} is not known; choose {', '.join(known)}")
        if not 0 < self.confidence < 1:
            raise ReldropError(f"confidence={self.confidence} must be between 0 and 1, e.g. 0.95")
        if self.reldrop is not None and self.paper not in PAPER:
            raise ReldropError(f"reldrop={self.reldrop} goes with paper={' or paper='.join(PAPER)}")
        if self.better is not None and self.metric is None:
            raise ReldropError(f"better={self.better} goes with metric=NAME")
        if self.source is not None and not self.source.startswith("wandb:"):
            raise ReldropError(f"source={self.source} is not known; it may be wandb:ENTITY/PROJECT")

    @property
    def scores(self) -> list[Score] | None:
        """The scores asked for; None if none were."""
        return None if self.metric is None else [Score(key, self.better) for key in self.metric.split(",")]


def tabulate(settings: Settings, records: Sequence[Record]) -> Table:
    """Return the table that is asked for.

    Raises:
        ReldropError: if runs cannot stand together, a metric is of no run, or published values are of nothing known.
    """
    scores = settings.scores
    figures = set().union(*(record.figures for record in records))
    for score in scores or []:
        if score.key not in figures:
            raise ReldropError(unknown(f"metric={score.key} is a figure of no run", score.key, figures))
    if settings.paper in PAPER:
        arms = settings.reldrop.split(",") if settings.reldrop else ()
        table = paper_table(settings.paper, records, scores, settings.confidence, arms)
    elif settings.paper == "ablation":
        table = ablation_table(records, scores or [Score(DEFAULT[0])], settings.confidence)
    else:
        shown = [Score(key) for key in DEFAULT if key in figures]
        table = table_of_settings(records, scores or shown, settings.confidence)
    if settings.reference is not None:
        join(table, read_published(settings.reference), settings.reference, records)
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m reldrop.tables",
        usage="%(prog)s [status] [RESULTS] [KEY=VALUE ...]",
        description="Print a table of finished runs: mean and deviation over seeds, paired differences.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    words = arguments.parse_args().words
    try:
        if words[:1] == ["status"]:
            print(status_table(_parse(words[1:], ("results",)).results), end="")
        else:
            _tables(_parse(words))
    except ReldropError as error:
        sys.exit(f"error: {error}")


def _parse(words: Sequence[str], known: Sequence[str] = tuple(field.name for field in fields(Settings))) -> Settings:
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key, value = "results", word
        if key not in known:
            raise ReldropError(unknown(f"{key} is not a setting", key, known, "see --help"))
        if key == "where":
            value = (*values.pop("where", ()), value)
        elif key in ("results", "output", "reference"):
            value = Path(value).expanduser()
        elif key == "confidence":
            try:
                value = float(value)
            except ValueError:
                raise ReldropError(f"confidence={value} is no number") from None
        if key in values:
            raise ReldropError(f"{key} is given twice, {values[key]} and {value}")
        values[key] = value
    return Settings(**values)


def _tables(settings: Settings) -> None:
    records, remarks = _read(settings)
    for remark in remarks:
        print(f"warning: {remark}", file=sys.stderr)
    if not records:
        raise ReldropError(f"no finished runs {_place(settings)}; start one with python -m reldrop.train")
    records = select(records, settings.where)
    output = settings.output
    if output is None:
        print(FORMATS[settings.format or "terminal"][1](tabulate(settings, records)), end="")
    elif output.suffix and not output.is_dir():
        _write(tabulate(settings, records), output, settings.format or _format_of(output), remarks)
    else:
        _write_all(settings, records, remarks)


def _read(settings: Settings) -> tuple[list[Record], list[str]]:
    if settings.source is None:
        return read_runs(settings.results)
    from reldrop.reporting.wandb_runs import read_wandb

    return read_wandb(settings.source.removeprefix("wandb:"))


def _place(settings: Settings) -> str:
    return f"in {settings.source}" if settings.source else f"under {settings.results / 'runs'}"


def _write_all(settings: Settings, records: Sequence[Record], remarks: Sequence[str]) -> None:
    """Write every table that the runs allow into a folder; those that they do not are told of in the end."""
    refused = []
    formats = [settings.format] if settings.format else list(FORMATS)
    for name, chosen, members in _possible(settings, records):
        try:
            table = tabulate(chosen, members)
        except ReldropError as error:
            refused.append(f"{name}: {error}")
            continue
        for form in formats:
            _write(table, settings.output / f"{name}{FORMATS[form][0]}", form, remarks)
    if refused:
        raise ReldropError("; ".join(refused))


def _possible(settings: Settings, records: Sequence[Record]) -> list[tuple[str, Settings, Sequence[Record]]]:
    """Return names of tables, how to make them, and the runs that they are made of."""
    if settings.paper is not None:
        return [(settings.paper, settings, records)]
    tables: list[tuple[str, Settings, Sequence[Record]]] = [("runs", settings, records)]
    for paper, on_points in (("table1", False), ("table2", True)):
        if any(record.on_points == on_points for record in records):
            tables.append((paper, replace(settings, paper=paper), records))
    for name in sorted({record.experiment for record in records if is_ablation(record.experiment)}):
        members = [record for record in records if record.experiment == name]
        tables.append((name, replace(settings, paper="ablation"), members))
    return tables


def _format_of(output: Path) -> str:
    suffixes = {suffix: name for name, (suffix, _) in FORMATS.items()}
    if output.suffix not in suffixes:
        raise ReldropError(f"output={output}: the suffix tells no format; use {', '.join(suffixes)}, or set format")
    return suffixes[output.suffix]


def _write(table: Table, output: Path, form: str, remarks: Sequence[str]) -> None:
    """Write a table and, beside it, the runs that it came from."""
    beside = output.with_name(f"{output.name}.runs.json")
    with writing(str(output), "set output to another file"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(output, FORMATS[form][1](table))
        write_json_atomic(beside, provenance(table, remarks))
    print(output)


if __name__ == "__main__":
    main()

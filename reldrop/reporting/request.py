"""The settings of a table, and the table that they ask for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reldrop.metrics.registry import Better, Unit
from reldrop.reporting.cells import Score
from reldrop.reporting.layouts import PAPER, Table, ablation_table, is_ablation, paper_table, table_of_settings
from reldrop.reporting.published import join, read_published
from reldrop.reporting.records import Record
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import unknown
from reldrop.utils.types import OpenFraction

DEFAULT = (
    *("test/top1", "test/best_top1", "occlusion/block_relevant", "occlusion/block_random"),
    *("occlusion/most", "occlusion/least", "occlusion/random", "attribution/gini", "test/generalization_gap"),
)


@dataclass(frozen=True)
class Request:
    """Which table is shown and how; see conf/tables.yaml for what each setting means."""

    results_dir: str
    status: bool
    source: str | None
    paper: Literal["table1", "table2", "ablation"] | None
    metric: Sequence[str]
    better: Better | None
    unit: Unit | None
    reldrop: Sequence[str]
    where: Sequence[str]
    confidence: OpenFraction
    reference: str | None
    format: Literal["terminal", "markdown", "latex", "csv"] | None
    output: str | None

    def __post_init__(self) -> None:
        if self.reldrop and self.paper not in PAPER:
            raise ReldropError(f"reldrop={','.join(self.reldrop)} goes with paper={' or paper='.join(PAPER)}")
        if (self.better or self.unit) and not self.metric:
            raise ReldropError("better and unit go with metric=NAME")

    def table(self, records: Sequence[Record]) -> Table:
        """Return the table of these runs.

        Raises:
            ReldropError: if runs differ in more than they may, no run has a metric, or a published value has an unknown name.
        """
        figures = set().union(*(record.figures for record in records))
        for key in self.metric:
            if key not in figures:
                raise ReldropError(unknown(f"metric={key} is a figure of no run", key, figures))
        scores = [Score(key, self.better, self.unit) for key in self.metric]
        if self.paper in PAPER:
            table = paper_table(self.paper, records, scores, self.confidence, self.reldrop)
        elif self.paper == "ablation":
            table = ablation_table(records, scores or [Score(DEFAULT[0])], self.confidence)
        else:
            shown = scores or [Score(key) for key in DEFAULT if key in figures]
            table = table_of_settings(records, shown, self.confidence)
        if self.reference is not None:
            file = Path(self.reference).expanduser()
            join(table, read_published(file), file, records)
        return table

    def every_table(self, records: Sequence[Record]) -> Iterator[tuple[str, "Request", Sequence[Record]]]:
        """Yield the name, the request and the runs of each table that these runs allow, or of the one of `paper`."""
        if self.paper is not None:
            yield self.paper, self, records
            return
        yield "runs", self, records
        for paper, on_points in (("table1", False), ("table2", True)):
            if any(record.on_points == on_points for record in records):
                yield paper, replace(self, paper=paper), records
        for name in sorted({record.experiment for record in records if is_ablation(record.experiment)}):
            yield name, replace(self, paper="ablation"), [record for record in records if record.experiment == name]

"""Cells of a table: runs that differ in their seed only, their mean, and paired differences to other arms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reldrop.metrics.registry import METRICS, Better, Metric, Unit, find
from reldrop.reporting.records import Record, as_text
from reldrop.reporting.statistics import Comparison, Summary, compare, summarize
from reldrop.runs.identity import run_hash
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import unknown

# What each arm is compared with, the first that there is.
BASELINES = {"none": ("none",), "random occlusion": ("random_erasing", "random_point_dropout")}
# Settings in which compared arms may differ; an arm without relevance does not use them.
OF_ARM = ("augmentation.", "attribution.", "trainer.eval_after_attribution")


@dataclass(frozen=True)
class Score:
    """A figure of runs.

    Attributes:
        key: its dotted key: one of summary.json, or of another file of the run folder, e.g. zero_shot.imagenet_a.top1.
        better: which direction is better; None for what the registry has.
        unit: its unit, likewise.

    Raises:
        ReldropError: for a metric that the registry does not know, without `better` and `unit`.
    """

    key: str
    better: Better | None = None
    unit: Unit | None = None

    def __post_init__(self) -> None:
        if find(self.key) is None and None in (self.better, self.unit):
            own = "for one of your own, tables takes better=higher|lower|none unit=percent|plain"
            raise ReldropError(unknown(f"metric={self.key} is not in docs/metrics.md", self.key, METRICS, own))

    @cached_property
    def metric(self) -> Metric:
        """Title, unit and direction."""
        known = find(self.key) or Metric(self.key)
        return Metric(known.title, self.unit or known.unit, self.better or known.better)

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "none": 0}[self.metric.better]

    @property
    def file(self) -> str:
        """The file of the run folder that it comes from, without .json."""
        return self.key.split(".")[0] if "." in self.key else "summary"


@dataclass(frozen=True)
class Arm:
    """The runs of one setting, by seed."""

    runs: dict[int, Record]

    @property
    def example(self) -> Record:
        """One of the runs."""
        return next(iter(self.runs.values()))

    @property
    def family(self) -> str:
        """A hash of all settings but those in which compared arms may differ."""
        return run_hash({key: value for key, value in self.example.settings.items() if not key.startswith(OF_ARM)})

    def values(self, score: Score) -> dict[int, float]:
        """Return the figure of each seed whose run has it."""
        return {seed: run.figures[score.key] for seed, run in self.runs.items() if score.key in run.figures}


@dataclass
class Cell:
    """One score of one arm, in its row.

    Attributes:
        augmentation: of the arm, whether or not it has runs.
        arm: its runs; None if there are none.
        summary: None if no run has the score.
        comparisons: name of a baseline -> paired difference to it.
        is_best: whether it is better than each other arm of its row or column, by interval and test.
        command: adds the seeds that are missing; None if none are, or if no run has recorded how it was started.
        published: the value of a reference file, as it is shown.
    """

    score: Score
    augmentation: str
    arm: Arm | None
    summary: Summary | None = None
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    is_best: bool = False
    command: str | None = None
    published: float | None = None

    def __post_init__(self) -> None:
        values = self.arm.values(self.score) if self.arm else {}
        if values:
            self.summary = summarize(list(values.values()))

    def compare(self, other: "Cell", confidence: float) -> Comparison | None:
        """Return the paired difference of two arms that have runs; None without common seeds."""
        return compare(self.arm.values(self.score), other.arm.values(other.score), confidence)


def arm_of(records: Iterable[Record], cell: str) -> Arm:
    """Return runs as one arm.

    Args:
        cell: where they meet, for messages.

    Raises:
        ReldropError: if they differ in more than the seed, or two have the same seed and other figures.
    """
    records = list(records)
    refuse_unlike(records, [record.settings for record in records], f"the runs of {cell} differ in more than the seed")
    runs: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: record.seed):
        other = runs.setdefault(record.seed, record)
        if other.figures != record.figures:
            raise ReldropError(
                f"{cell} has two runs of seed {record.seed}, {other.run} and {record.run}; leave one out, e.g. with "
                f"where=run!={record.run}"
            )
    return Arm(runs)


def arms_by_setting(records: Iterable[Record]) -> list[Arm]:
    """Return an arm for each setting there is."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.setting, []).append(record)
    return [arm_of(group, f"setting {setting}") for setting, group in groups.items()]


def refuse_unlike(records: Sequence[Record], contents: Sequence[dict[str, Any]], what: str) -> None:
    """Refuse contents (of these records) that are not all equal.

    Raises:
        ReldropError: naming the keys and their values.
    """
    keys = dict.fromkeys(key for content in contents for key in content)
    differing = {}
    for key in keys:
        values = dict.fromkeys(as_text(content[key]) if key in content else "not set" for content in contents)
        if len(values) > 1:
            differing[key] = " or ".join(values)
    if not differing:
        return
    shown = [f"{key} ({values})" for key, values in list(differing.items())[:4]]
    more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
    settings = ",".join(dict.fromkeys(record.setting for record in records))
    raise ReldropError(
        f"{what}: {', '.join(shown)}{more}; separate them with where=KEY=VALUE, or where=setting=HASH (here {settings})"
    )


def compare_all(cells: Sequence[Cell], confidence: float) -> None:
    """Fill in, for cells of one score whose arms may be compared, the differences to the baselines and which is best.

    Raises:
        ReldropError: if their runs were not measured alike.
    """
    present = [cell for cell in cells if cell.summary is not None]
    _refuse_unlike_measurements(present)
    for place, (name, augmentations) in enumerate(BASELINES.items()):
        earlier = [own for names in list(BASELINES.values())[: place + 1] for own in names]
        for cell in (cell for cell in present if cell.augmentation not in earlier):
            baseline = _baseline(cell, [other for other in present if other.augmentation in augmentations])
            comparison = baseline and cell.compare(baseline, confidence)
            if comparison is not None:
                cell.comparisons[name] = comparison
    if len(present) > 1:
        best = max(present, key=lambda cell: cell.score.sign * cell.summary.mean)
        others = [best.compare(other, confidence) for other in present if other is not best]
        best.is_best = all(
            other is not None and other.supported and best.score.sign * other.difference > 0 for other in others
        )


def _baseline(cell: Cell, candidates: Sequence[Cell]) -> Cell | None:
    """The one candidate, or the one of several that agrees in the settings that both have, e.g. attribution and area."""
    own = cell.arm.example.settings

    def agrees(settings: dict[str, Any]) -> bool:
        common = [key for key in own.keys() & settings.keys() if key.startswith(OF_ARM) and key != "augmentation.name"]
        return all(own[key] == settings[key] for key in common)

    if len(candidates) > 1:
        candidates = [other for other in candidates if agrees(other.arm.example.settings)]
    return candidates[0] if len(candidates) == 1 else None


def _refuse_unlike_measurements(cells: Sequence[Cell]) -> None:
    """Refuse figures that were measured on different samples or with different options, as far as that is recorded."""
    runs = [run for cell in cells for run in cell.arm.runs.values() if cell.score.key in run.figures]
    if not runs:
        return
    score = cells[0].score
    keys = [key for key in runs[0].conditions if key.startswith(("summary.", f"{score.file}."))]
    known = [key for key in keys if all(key in run.conditions for run in runs)]  # older runs recorded less
    conditions = [{key: run.conditions[key] for key in known} for run in runs]
    where = f"{runs[0].dataset} {runs[0].backbone}"
    refuse_unlike(runs, conditions, f"{score.key} of {where} was not measured alike")

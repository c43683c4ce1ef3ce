"""Layouts of tables: a row for each setting, for the values in which settings differ, for each metric, or the paper's."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from reldrop.reporting.arms import ARMS, arm_title
from reldrop.reporting.cells import (
    BASELINES,
    OF_ARM,
    Arm,
    Cell,
    Score,
    arm_of,
    arms_by_setting,
    compare_all,
    refuse_unlike,
)
from reldrop.reporting.commands import command_like
from reldrop.reporting.records import Record, as_text
from reldrop.utils.errors import ReldropError

PAPER = {
    "table1": ("Images", "random_erasing", "reldrop_block", ("test/top1",)),
    "table2": ("Point clouds", "random_point_dropout", "reldrop_point", ("test/top1", "test/class_mean")),
}
ZERO_SHOT = ("zero_shot.imagenet_a.top1", "zero_shot.imagenet_r.top1", "zero_shot.imagenet_o.aupr")  # with ImageNet's
SUITES = {"evaluation": "robustness", "zero_shot": "zero_shot"}  # file of a run folder -> suite of reldrop.evaluate
# The paper's order; what is not in it comes last.
DATASETS = ("cifar10", "cifar100", "imagenet", "modelnet40", "shapenet")
AUGMENTATIONS = tuple(ARMS)


@dataclass
class Row:
    """A row: its labels by title, its cells, and one of its runs, for data set and backbone."""

    labels: dict[str, str]
    cells: list[Cell]
    example: Record


@dataclass
class Table:
    """A table, before it has a format.

    Attributes:
        name: what it is, in a few words.
        columns: titles of the cells of a row.
        differences: columns whose differences to a baseline are shown as well: place of the column, name of the baseline.
        rows: at least one; their labels have the same titles.
        notes: lines to go below.
        marks_differences: whether differences that interval and test support are marked.
    """

    name: str
    columns: list[str]
    differences: list[tuple[int, str]]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    marks_differences: bool = False

    @property
    def labels(self) -> list[str]:
        return list(self.rows[0].labels)

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells]


def table_of_settings(records: Sequence[Record], scores: Sequence[Score], confidence: float) -> Table:
    """Return a table with a row for each setting, and for the baselines that have no runs."""

    def labels(example: Record, augmentation: str, arm: Arm | None) -> dict[str, str]:
        runs = list(arm.runs.values()) if arm else []
        steps = sorted({as_text(run.figures["steps"]) for run in runs if "steps" in run.figures})
        return {
            "experiment": example.experiment,
            "dataset": example.dataset,
            "backbone": example.backbone,
            "augmentation": augmentation,
            "setting": example.setting if arm else "-",
            "steps": "/".join(steps) or "-",
            "seeds": str(len(runs)),
        }

    return _by_setting("runs", records, scores, confidence, labels, complete=True)


def ablation_table(records: Sequence[Record], scores: Sequence[Score], confidence: float) -> Table:
    """Return a table with a row for each setting, named by the values in which they differ."""
    keys = differing_keys(records)

    def labels(example: Record, augmentation: str, arm: Arm | None) -> dict[str, str]:
        return {key_title(key): value_text(example, key) for key in keys} | {"seeds": str(len(arm.runs) if arm else 0)}

    return _by_setting("ablation", records, scores, confidence, labels, complete=False)


def table_of_metrics(records: Sequence[Record], scores: Sequence[Score], confidence: float) -> Table:
    """Return a table with a row for each metric and a column for each setting, the baselines first.

    A column has the name of the augmentation and, where several settings have that, the values in which they differ.
    """
    arms = sorted(arms_by_setting(records), key=lambda arm: _place(AUGMENTATIONS, arm.example.augmentation))
    rows = []
    for score in scores:
        cells = [Cell(score, arm.example.augmentation, arm) for arm in arms]
        compare_all(cells, confidence)
        rows.append(Row({"metric": score.metric.label}, cells, arms[0].example))
    compared = {(place, name) for row in rows for place, cell in enumerate(row.cells) for name in cell.comparisons}
    columns = [column_title(arm.example, records) for arm in arms]
    return Table("metrics", columns, sorted(compared), rows, _warning(records), marks_differences=True)


def paper_table(
    name: str,
    records: Sequence[Record],
    scores: Sequence[Score],
    confidence: float,
    reldrop: Sequence[str] = (),
) -> Table:
    """Return the paper's table 1 or 2: a row for each data set, backbone and score, a column for each arm.

    It is of the runs of paper/table1_* or paper/table2_*, or, if there are none, of all but the ablations.

    Args:
        scores: none for the paper's: test accuracy, and for ImageNet the zero-shot sets; instance and class mean accuracy.
        reldrop: the augmentations in the columns of RelDrop; reldrop_block or reldrop_point if there are none.

    Raises:
        ReldropError: if runs that meet in a cell or a row differ in more than they may, or there are none.
    """
    title, random, default, own = PAPER[name]
    arms = ["none", random, *(reldrop or [default])]
    on_points = name == "table2"
    fitting = [record for record in records if record.on_points == on_points]
    own_experiments = [record for record in fitting if record.experiment.startswith(name)]
    considered = own_experiments or [record for record in fitting if not is_ablation(record.experiment)]
    chosen = [record for record in considered if record.augmentation in arms]
    if not chosen:
        there = ", ".join(sorted({f"{record.dataset} {record.augmentation}" for record in records}))
        raise ReldropError(
            f"paper={name} shows {' / '.join(arms)} on {title.lower()}, of which there are no finished runs (there are {there})"
        )
    rows = []
    for label, members in _grouped(chosen, lambda run: (run.experiment, run.dataset, run.backbone)).items():
        where = " ".join(label)
        present = [arm for arm in arms if any(run.augmentation == arm for run in members)]
        found = {arm: arm_of([run for run in members if run.augmentation == arm], f"{where} {arm}") for arm in present}
        examples = [arm.example for arm in found.values()]
        alike = [{key: run.settings[key] for key in run.settings if not key.startswith(OF_ARM)} for run in examples]
        refuse_unlike(examples, alike, f"the arms of {where} differ in more than the augmentation")
        with_zero_shot = label[1] == "imagenet" or any(key in run.figures for run in members for key in ZERO_SHOT)
        shown = scores or [Score(key) for key in (*own, *(ZERO_SHOT if with_zero_shot and not on_points else ()))]
        for score in shown:
            cells = [Cell(score, arm, found.get(arm)) for arm in arms]
            compare_all(cells, confidence)
            titles = ("experiment", "dataset", "backbone", "score")
            rows.append(Row(dict(zip(titles, (*label, score.metric.title), strict=True)), cells, members[0]))
        _fill_commands(rows[-len(shown) :], list(found.values()))
    differences = [(place, baseline) for place in range(2, len(arms)) for baseline in BASELINES]
    notes = []
    if others := sorted({record.augmentation for record in considered} - set(arms)):
        notes.append(f"Not shown: {', '.join(others)} (reldrop=NAME gives one a column).")
    if others := sorted({record.experiment for record in fitting} - {record.experiment for record in considered}):
        notes.append(f"Not shown: the experiments {', '.join(others)} (where=name=NAME shows one).")
    notes += _warning(chosen)
    columns = [arm_title(arm) for arm in arms]
    return Table(f"{name}: {title.lower()}", columns, differences, rows, notes)


def is_ablation(experiment: str) -> bool:
    """Whether an experiment is one of paper/ablation_*."""
    return experiment.startswith("ablation")


def _by_setting(
    name: str,
    records: Sequence[Record],
    scores: Sequence[Score],
    confidence: float,
    labels: Callable[[Record, str, Arm | None], dict[str, str]],
    complete: bool,
) -> Table:
    """Return a table with a row for each setting; complete: and for each baseline without runs."""
    rows = []
    for arms in _grouped(arms_by_setting(records), lambda arm: arm.family).values():
        first = arms[0].example
        present: list[tuple[str, Arm | None]] = [(arm.example.augmentation, arm) for arm in arms]
        # An ablation varies settings that baselines do not have.
        wanted = ("none", PAPER["table2" if first.on_points else "table1"][1])
        wanted = wanted if complete and not is_ablation(first.experiment) else ()
        present += [(name, None) for name in wanted if name not in dict(present)]
        family = []
        for augmentation, arm in present:
            example = arm.example if arm else first
            cells = [Cell(score, augmentation, arm) for score in scores]
            family.append(Row(labels(example, augmentation, arm), cells, example))
        for column in zip(*(row.cells for row in family), strict=True):
            compare_all(column, confidence)
        _fill_commands(family, arms)
        rows += sorted(
            family, key=lambda row: (_place(AUGMENTATIONS, row.cells[0].augmentation), _natural(row.labels.values()))
        )
    rows.sort(key=lambda row: (row.example.experiment, *_order(row.example)))  # stable: families stay together
    differences = [(0, baseline) for baseline in BASELINES if any(baseline in row.cells[0].comparisons for row in rows)]
    return Table(name, [score.metric.title for score in scores], differences, rows, _warning(records))


def _warning(records: Sequence[Record]) -> list[str]:
    smoke = any(record.is_smoke for record in records)
    return ["Runs of smoke scale show that it runs; their figures are no results."] if smoke else []


def _fill_commands(rows: Sequence[Row], arms: Sequence[Arm]) -> None:
    """Give each cell the command for the seeds that it lacks and others of these arms have, or for missing evaluations."""
    seeds = {seed for arm in arms for seed in arm.runs}
    unmeasured: dict[str, list[Cell]] = {}
    for cell in (cell for row in rows for cell in row.cells):
        lacking = seeds - (cell.arm.runs.keys() if cell.arm else set())
        if lacking:
            like = cell.arm or min(arms, key=lambda arm: _place(AUGMENTATIONS, arm.example.augmentation))
            cell.command = command_like(like.example, lacking, cell.augmentation)
        elif cell.arm and len(cell.arm.values(cell.score)) < len(cell.arm.runs):
            unmeasured.setdefault(cell.score.file, []).append(cell)
    for file, cells in unmeasured.items():
        runs = {run.run: None for cell in cells for run in cell.arm.runs.values() if cell.score.key not in run.figures}
        first, *others = runs
        if file not in SUITES or "://" in first:  # runs of W&B have no folder
            continue
        command = f"python -m reldrop.evaluate run={'$run' if others else first} suite={SUITES[file]}"
        for cell in cells:
            cell.command = f"for run in {' '.join(runs)}; do {command}; done" if others else command


def differing_keys(records: Sequence[Record]) -> list[str]:
    """Return the settings that tell the runs apart.

    Settings that only one augmentation, attribution, data set, ... has do not count: its name tells it apart.
    """
    keys = dict.fromkeys(key for record in records for key in record.settings)
    chosen = []
    for key in keys:
        group, _, leaf = key.rpartition(".")
        alike: dict[Any, set[str]] = {}  # name of the choice -> values
        for settings in (record.settings for record in records):
            choice = settings.get(f"{group}.name") if group and leaf != "name" else None
            alike.setdefault(choice, set()).add(as_text(settings.get(key)))
        if any(len(values) > 1 for values in alike.values()):
            chosen.append(key)
    chosen.sort(key=lambda key: key.rpartition(".")[2] != "name")  # names first
    return chosen or ["augmentation.name"]


def column_title(example: Record, records: Sequence[Record]) -> str:
    """Return the augmentation of a run and, where several settings of `records` have that, the values in which they differ."""
    alike = [record for record in records if record.augmentation == example.augmentation]
    if len({record.setting for record in alike}) == 1:
        return example.augmentation
    values = (f"{key_title(key)} {value_text(example, key)}" for key in differing_keys(alike))
    return ", ".join([example.augmentation, *values])


def key_title(key: str) -> str:
    """Return a dotted key of a setting as tables have it."""
    return "experiment" if key == "name" else key.removesuffix(".name")


def value_text(record: Record, key: str) -> str:
    """Return a setting of a run as tables have it."""
    return as_text(record.settings[key]) if key in record.settings else "-"


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Return items grouped by `key`, data sets and backbones in the order of the paper."""
    groups: dict[Any, list[Any]] = {}
    for item in sorted(items, key=lambda item: _order(getattr(item, "example", item))):
        groups.setdefault(key(item), []).append(item)
    return groups


def _order(record: Record) -> tuple[Any, ...]:
    return _place(DATASETS, record.dataset), record.is_smoke, _natural([record.dataset, record.backbone])


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _natural(texts: Iterable[str]) -> list[tuple[int, float, str]]:
    """A key by which resnet18 comes before resnet101, and 0.02 before 0.1."""
    parts = re.split(r"(\d+(?:\.\d+)?)", " ".join(texts))
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part) for part in parts]

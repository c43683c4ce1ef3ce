"""Evaluations of several runs side by side: a table for each experiment, data set and backbone."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reldrop.evaluation.evaluator import Evaluation
from reldrop.metrics.registry import current_key, find
from reldrop.reporting.cells import Score
from reldrop.reporting.formats import markdown
from reldrop.reporting.layouts import Table, table_of_metrics
from reldrop.reporting.records import Record
from reldrop.runs.reader import RunFolder
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, write_text_atomic, writing

logger = logging.getLogger("reldrop")

SHOWN = (
    *("clean.top1", "clean.class_mean", "clean.generalization_gap", "clean.rms_calibration_error", "clean.aurra"),
    *(f"curves.accuracy.{order}" for order in ("most", "random", "least", "least_minus_most")),
    *(f"blocks.{place}.mean" for place in ("relevant", "random", "center")),
    *(f"regions.{key}" for key in ("mass_accuracy", "rank_accuracy", "pointing_game", "relevance_per_area")),
    *("spread.gini", "spread.effective_share"),
)


@dataclass(frozen=True)
class Contest:
    """Runs of one experiment, data set and backbone side by side.

    Attributes:
        table: a row for each metric, a column for each setting.
        evaluations: of the runs, by the title of their column and their seed.
    """

    table: Table
    evaluations: dict[str, dict[int, Evaluation]]


def compare_runs(evaluations: Sequence[Evaluation], folder: Path) -> dict[Path, Contest]:
    """Print a table for each experiment, data set and backbone with several runs, and write it to a folder of its own.

    Args:
        evaluations: of several runs, all made with the same settings.
        folder: where to; comparison.md has the table, comparison.json the figures of all runs.

    Returns:
        What was written, by its folder.

    Raises:
        ReldropError: runs that are to be compared were tested on other samples, or a file cannot be written.
    """
    groups: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for evaluation in evaluations:
        groups[tuple(evaluation.figures[key] for key in ("experiment", "dataset", "backbone"))].append(evaluation)
    written = {}
    for (experiment, dataset, backbone), members in groups.items():
        if len(members) == 1:
            continue
        place, contest = folder / f"{experiment}-{backbone}", contest_of(members)
        text = markdown(contest.table)
        figures = {
            "settings": members[0].figures["settings"],
            "arms": {
                title: {
                    str(seed): {key: one.figures[key] for key in ("subject", "weights")} | one.numbers
                    for seed, one in runs.items()
                }
                for title, runs in contest.evaluations.items()
            },
        }
        with writing(f"into {place}", "set output=FOLDER"):
            place.mkdir(parents=True, exist_ok=True)
            write_text_atomic(place / "comparison.md", text)
            write_json_atomic(place / "comparison.json", figures)
        print(f"\n{experiment}: {dataset}, {backbone}, {members[0].figures['samples']} test samples\n\n{text}", end="")
        logger.info("written to %s", place)
        written[place] = contest
    return written


def contest_of(evaluations: Sequence[Evaluation]) -> Contest:
    """Return evaluations of one experiment, data set and backbone side by side.

    Raises:
        ReldropError: they were tested on other samples, or two are of the same seed of the same setting.
    """
    first, *others = evaluations
    for other in others:
        if not torch.equal(first.samples["clean/label"], other.samples["clean/label"]):
            raise ReldropError(
                f"{first.folder} and {other.folder} have other test samples; compare runs with the same "
                "dataset.test_subset on the same data"
            )
    records = [_record(evaluation) for evaluation in evaluations]
    by_run = dict(zip((record.run for record in records), evaluations, strict=True))
    figures = dict.fromkeys(key for record in records for key in record.figures)
    groups = {key.partition(".")[0] for key in SHOWN}
    own = [key for key in figures if "." in key and key.partition(".")[0] not in groups]  # of measurements of your own
    scores = [Score(key) if find(key) else Score(key, "none", "plain") for key in (*SHOWN, *own) if key in figures]
    table = table_of_metrics(records, scores, confidence=0.95)
    runs = [{seed: by_run[run.run] for seed, run in cell.arm.runs.items()} for cell in table.rows[0].cells]
    return Contest(table, dict(zip(table.columns, runs, strict=True)))


def _record(evaluation: Evaluation) -> Record:
    """Return an evaluation as tables see it."""
    label, folder = evaluation.figures, str(evaluation.folder)
    figures = {current_key(key): value for key, value in evaluation.numbers.items()}
    try:
        return Record.of(folder, RunFolder(evaluation.folder).config, figures=figures)
    except ReldropError:  # a checkpoint file with a configuration from elsewhere
        names = {f"{group}.name": label[group] for group in ("dataset", "backbone", "augmentation")}
        settings = {"name": label["experiment"], **names, "setting": label["setting"]}
        return Record(folder, label["seed"], settings, figures)

"""How far the runs of a results folder are, from what lies in it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from reldrop.reporting.records import run_folders
from reldrop.runs.queue import queued_runs
from reldrop.runs.reader import RunFolder
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import format_columns

STATES = ("finished", "running", "interrupted", "failed", "waiting", "unreadable")


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: finished (it has its summary), running (a process holds its folder), failed (its last start ended in an
            error), interrupted (none of these: the same command goes on), waiting (a sweep has written it down, and it has
            not begun), or unreadable.
        progress: finished epochs of all, or steps where those are limited.
        remark: the error, if there was one.
    """

    folder: Path
    state: str
    progress: str = ""
    remark: str = ""


def status_of(folder: Path) -> Status:
    """Return where the run of a folder stands."""
    if not folder.exists():
        return Status(folder, "waiting")
    run = RunFolder(folder)
    state = run.state
    try:
        return Status(folder, state, run.progress, run.failure if state == "failed" else "")
    except (ReldropError, KeyError, TypeError, OmegaConfBaseException) as error:
        if state == "running":  # it may only just have begun to write
            return Status(folder, state)
        return Status(folder, "unreadable", remark=first_line(error))


def status_table(results: Path) -> str:
    """Return a line for each run under `results`, begun or written down by a sweep, and how many there are of each state.

    Raises:
        ReldropError: if there are no runs, or a sweep's list of them cannot be read.
    """
    folders = dict.fromkeys([*run_folders(results), *queued_runs(results)])
    runs = [status_of(folder) for folder in sorted(folders)]
    if not runs:
        raise ReldropError(f"no runs under {results / 'runs'}; start one with python -m reldrop.train")
    lines = [["experiment", "augmentation", "run", "state", "progress", ""]]
    lines += [[*run.folder.parts[-3:], run.state, run.progress, run.remark] for run in runs]
    counts = Counter(run.state for run in runs)
    counted = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return "\n".join([*format_columns(lines), "", f"{len(runs)} runs: {counted}"]) + "\n"

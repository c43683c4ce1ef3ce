"""How far the runs of a results folder are."""

from collections import Counter
from pathlib import Path

from reldrop.runs.reader import RunFolder, run_folders
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import format_columns

STATES = ("finished", "running", "interrupted", "failed", "waiting", "unreadable")


def status_table(results: Path) -> str:
    """Return a line for each run under `results` with its state (see `RunFolder.state`), and the number of runs in each.

    Raises:
        ReldropError: if there are no runs.
    """
    runs = run_folders(results)
    if not runs:
        raise ReldropError(f"no runs under {results / 'runs'}; start one with python -m reldrop.train")
    lines = [[*run.path.parts[-3:], *status(run)] for run in runs]
    counts = Counter(line[3] for line in lines)
    counted = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    header = ["experiment", "augmentation", "run", "state", "progress", ""]
    return "\n".join([*format_columns([header, *lines]), "", f"{len(lines)} runs: {counted}"]) + "\n"


def status(run: RunFolder) -> tuple[str, str, str]:
    """Return the state of a run, or `unreadable`; its finished epochs or steps; and the error, if there was one."""
    state = run.state
    try:
        return state, run.progress, run.failure if state == "failed" else ""
    except (ReldropError, KeyError, TypeError, AttributeError) as error:
        if state == "running":  # it may only just have begun to write
            return state, "", ""
        return "unreadable", "", first_line(error)

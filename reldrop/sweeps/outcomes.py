"""How the runs of the sweeps of this process ended."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from reldrop.distributed.launch import launched
from reldrop.runs.reader import RunFolder


@dataclass(frozen=True)
class RunResult:
    """The state of a run at the end of its sweep: already there, finished, failed or submitted."""

    label: str
    state: str
    detail: str
    accuracy: float = float("nan")


results: list[RunResult] = []  # for `report`, since Hydra returns nothing from a sweep


def result_of(folder: Path, state: str, message: str | None) -> RunResult:
    """Return the result of a run.

    Args:
        folder: of the run.
        state: if it did not fail.
        message: what its launcher returned of it.
    """
    run = RunFolder(folder)
    summary = run.summary()
    if summary is not None:
        return RunResult(run.label, state, f"test accuracy {summary['test/top1']:.2%}", summary["test/top1"])
    if state == "submitted":
        return RunResult(run.label, state, message or "")
    return RunResult(run.label, "failed", run.failure or message or "ended without a message")


def report() -> int:
    """Print a table of `results`, if there are any; return the exit code, 1 if some runs failed."""
    if not results or launched().rank:  # other processes have the same table
        return 0
    width = max(len(result.label) for result in results)
    print("\n".join(f"{each.label:{width}}  {each.state:13}  {each.detail}".rstrip() for each in results))
    counts = Counter(result.state for result in results)
    print(f"{len(results)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    return 1 if counts["failed"] else 0

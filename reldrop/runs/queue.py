"""What a sweep is about to train, written down in its results folder: a run in a queue has no folder of its own yet."""

import json
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, writing

PLANS = Path("hydra", "sweeps")  # in a results folder


@contextmanager
def record_queue(runs: Iterable[Path]) -> Iterator[None]:
    """Keep a list of run folders beside them; it is taken back if the block refuses to start any.

    Raises:
        ReldropError: if it cannot be written.
    """
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}.json"
    plans: dict[Path, list[str]] = defaultdict(list)
    for run in runs:
        results = run.parents[3]  # results/runs/EXPERIMENT/AUGMENTATION/SEED
        plans[results / PLANS / name].append(run.relative_to(results).as_posix())
    for path, names in plans.items():
        with writing(f"to {path.parent}", "set results_dir to a folder that can be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(path, {"command": shlex.join(sys.argv), "runs": names})
    try:
        yield
    except ReldropError:
        for path in plans:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others may lie there
                path.parent.rmdir()
        raise


def queued_runs(results: Path) -> list[Path]:
    """Return the run folders that sweeps have written down under `results`, whether or not they exist.

    Raises:
        ReldropError: for a list that cannot be read.
    """
    found: dict[Path, None] = {}
    for path in sorted((results / PLANS).glob("*.json")):
        try:
            found.update(dict.fromkeys(results / name for name in json.loads(path.read_text())["runs"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReldropError(f"{path}, the list of a sweep's runs, cannot be read ({error}); delete it") from error
    return list(found)

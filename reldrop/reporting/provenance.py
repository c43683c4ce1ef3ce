"""Which runs a table came from, of which code and which settings."""

from collections.abc import Sequence
from typing import Any

from reldrop.reporting.layouts import Table


def provenance(table: Table, remarks: Sequence[str]) -> dict[str, Any]:
    """Return the runs behind the cells of a table: where they lie, their settings' hashes, and the code of each start.

    Args:
        remarks: what was left out of the table.
    """
    runs = {run.run: run for cell in table.cells if cell.arm is not None for run in cell.arm.runs.values()}
    code = {(start.get("commit"), start.get("dirty")) for run in runs.values() for start in run.starts}
    return {
        "table": table.name,
        "code": [{"commit": commit, "dirty": dirty} for commit, dirty in sorted(code, key=str)],
        "left_out": list(remarks),
        "runs": [
            {
                "run": run.run,
                "experiment": run.experiment,
                "augmentation": run.augmentation,
                "seed": run.seed,
                "setting": run.setting,
                "config_hash": run.config_hash,
                "conditions": run.conditions,
                "starts": [
                    {key: start.get(key) for key in ("time", "commit", "dirty", "overrides")} for start in run.starts
                ],
            }
            for run in sorted(runs.values(), key=lambda run: run.run)
        ],
    }

"""Runs of a Weights & Biases project as records, the same as from their folders."""

import math
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from reldrop.metrics.registry import current_key
from reldrop.reporting.records import Record
from reldrop.runs.reader import summary_of
from reldrop.runs.trust import check_plain
from reldrop.utils.errors import ReldropError, first_line


def read_wandb(source: str) -> tuple[list[Record], list[str]]:
    """Return the finished runs of wandb:ENTITY/PROJECT through W&B's public API, and a line on each that is left out.

    Figures are computed from the history, as a run's summary is, and not taken from W&B's summary of last values.

    Raises:
        ReldropError: if W&B is not installed, there is no login, or the project cannot be read.
    """
    if not re.fullmatch("wandb:[^/]+/[^/]+", source):
        raise ReldropError(f"source={source} must be source=wandb:ENTITY/PROJECT")
    try:
        import wandb
    except ImportError:
        raise ReldropError(f"source={source} needs W&B: pip install wandb") from None
    records, remarks = [], []
    try:
        runs = list(wandb.Api().runs(source.removeprefix("wandb:")))
    except Exception as error:  # no login, no connection, no such project: each release has types of its own
        raise ReldropError(
            f"source={source} cannot be read ({first_line(error)}); check `wandb login`, the connection and the names"
        ) from error
    for run in runs:
        try:
            record = _record(run)
        except Exception as error:  # one run of a project that others write to as well
            remarks.append(f"{run.url} is left out: {first_line(error)}")
            continue
        if record is None:
            remarks.append(f"{run.url} is not finished and left out")
        else:
            records.append(record)
    return records, remarks


def _record(run: Any) -> Record | None:
    """Return the record of a run of W&B; None if it has not come to its end."""
    rows = ({current_key(key): value for key, value in row.items()} for row in run.scan_history())
    history = [row for row in rows if row.get("epoch") is not None and row.get("test/top1") is not None]
    if run.state != "finished" or not history:
        return None
    config = _nested(run.config)
    trainer, last = config["trainer"], history[-1]
    if last["epoch"] < trainer["epochs"] and last["step"] < (trainer.get("max_steps") or math.inf):
        return None
    metadata = run.metadata or {}
    start: dict[str, Any] = {"commit": (metadata.get("git") or {}).get("commit"), "dirty": None}
    if metadata.get("startedAt"):
        start["time"] = metadata["startedAt"]
    words = metadata.get("args") or []
    if not any(word.startswith("-") for word in words):  # no sweep, whose words are those of all its runs
        start["overrides"] = words
    figures = {key: value for key, value in summary_of(history).items() if value is not None}
    check_plain(config)
    return Record.of(run.url, OmegaConf.create(config), figures=figures, starts=[start])


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with its groups: of a run of a sweep of W&B, they are where their settings are, GROUP.KEY."""
    nested = {key: value for key, value in config.items() if "." not in key}
    for path, value in config.items():
        *groups, key = path.split(".")
        place = nested
        for group in groups:
            if not isinstance(place.get(group), dict):
                place[group] = {}
            place = place[group]
        place.setdefault(key, value)
    return nested

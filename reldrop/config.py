"""Checks of a composed configuration before any work starts."""

import inspect
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig

from reldrop.errors import ReldropError

TOP_LEVEL = [
    "name",
    "seed",
    "data_dir",
    "results_dir",
    "force",
    "dataset",
    "backbone",
    "augmentation",
    "attribution",
    "optimizer",
    "scheduler",
    "trainer",
    "tracking",
]
GROUPS = ("dataset", "backbone", "augmentation", "attribution", "optimizer", "scheduler")
LABELS = {"augmentation": ("name",)}  # keys that name a choice and are no argument of what it builds


def check_keys(cfg: DictConfig) -> None:
    """Refuse keys that nothing reads.

    Raises:
        ReldropError: naming the key, and the nearest one that exists.
    """
    from reldrop.loop import TrainerConfig

    _refuse_unknown("", cfg, TOP_LEVEL)
    for group in GROUPS:
        target = get_object(cfg[group]["_target_"])
        parameters = inspect.signature(target).parameters
        # `**options` would take anything; none of the targets has it
        _refuse_unknown(group, cfg[group], ["_target_", "_partial_", *LABELS.get(group, ()), *parameters])
    _refuse_unknown("trainer", cfg.trainer, [field.name for field in fields(TrainerConfig)])
    _refuse_unknown("tracking", cfg.tracking, ["mode", "project", "entity", "group", "tags", "job_type"])


def _refuse_unknown(group: str, node: DictConfig, known: Any) -> None:
    known = list(known)
    for key in node:
        if key not in known:
            prefix = f"{group}." if group else ""
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ReldropError(f"{prefix}{key} is not a setting; {hint}")


def arguments(node: DictConfig, group: str) -> DictConfig:
    """Return a group without the keys that only name the choice, as `hydra.utils.instantiate` takes it."""
    return DictConfig({key: value for key, value in node.items() if key not in LABELS.get(group, ())})

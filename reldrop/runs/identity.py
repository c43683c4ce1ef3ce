"""What a run is: the settings that its result depends on, their hash, and the folder that is named by them."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reldrop.config import resolved
from reldrop.utils.errors import ReldropError
from reldrop.utils.nested import flatten
from reldrop.utils.types import whole_as_int

IDENTITY_VERSION = 2  # of the rules of this file; runs of other versions have other folders

# Groups and settings that a result does not depend on. What a scale (conf/scale) changes are settings of other groups.
OUTSIDE = ("machine", "monitor", "tracking", "launcher", "scale", "data_dir", "results_dir", "force", "run")

# Settings that came to conf/ after runs of this version had been made: "group.setting" -> the value that those runs had
# without it. With this value, a setting is no part of the hash; so it must stay, also when the default changes later.
ADDED_LATER: dict[str, Any] = {
    "attribution.gamma": 0.25,
    "attribution.low": -3.0,
    "attribution.high": 3.0,
    "attribution.start": "one",
    "attribution.compile": False,
    "attribution.resolution": 1.0,
    "attribution.until": None,
    "attribution.precision": None,
    "augmentation.place_by": "pixel",
    "augmentation.border": "clip",
    "trainer.fast_dev_run": False,
}


def identity(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that a run's result depends on, "group.setting" -> value.

    A choice is told by its `name`, not by the Python path of its `_target_`. A whole number is an int, however written.

    Raises:
        ReldropError: where a value is missing or an interpolation leads nowhere.
    """
    settings = {}
    for group, value in resolved(cfg).items():
        if group in (*OUTSIDE, "identity_version"):
            continue
        if isinstance(value, dict) and "name" in value:  # null: a data set has that of its folder
            value = {key: item for key, item in value.items() if key != "_target_"}
        settings[group] = _plain(value)
    return dict(flatten(settings))


def run_hash(identity: dict[str, Any]) -> str:
    """Return 8 hexadecimal digits that stand for an identity, nested or flat."""
    added = {key: _plain(value) for key, value in ADDED_LATER.items()}
    settings = {key: value for key, value in flatten(identity) if key not in added or added[key] != value}
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def run_folder(cfg: DictConfig) -> Path:
    """Return the folder of the run that `cfg` describes, whether or not it exists.

    Raises:
        ReldropError: for a configuration that does not resolve, a name that is no name for a folder, or a choice without
            a name.
    """
    settings = identity(cfg)
    names = {key: settings.get(key) for key in ("name", "augmentation.name")}
    for key, name in names.items():
        if name is None or not re.fullmatch(r"\w[\w.+=-]{,199}", str(name)):
            raise ReldropError(f"{key}={name!r} names a folder: use letters, digits and . _ + = - only, at most 200")
    for key in settings:
        group, _, rest = key.partition(".")
        if rest == "_target_":
            raise ReldropError(f"{group}.name has no value; give the choice a name, by which its runs are told apart")
    return Path(cfg.results_dir, "runs", *map(str, names.values()), f"seed{cfg.seed}-{run_hash(settings)}")


def check_names(overrides: Sequence[str]) -> None:
    """Refuse words of a command line that change what a choice is and leave it its name.

    Raises:
        ReldropError: for `group._target_=...` without `group.name=...`.
    """
    keys = [word.lstrip("+").partition("=")[0] for word in overrides]
    for key in keys:
        group, _, rest = key.rpartition(".")
        if rest == "_target_" and f"{group}.name" not in keys:
            raise ReldropError(f"{key} makes another choice of {group}; name it as well: {group}.name=NAME")


def _plain(value: Any) -> Any:
    """Return a value with an int for each whole number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return whole_as_int(value)

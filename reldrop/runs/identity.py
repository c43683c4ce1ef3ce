"""What a run is: the settings that its result depends on, their hash, and the folder that is named by them."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.nested import flatten

# What a run's result does not depend on: where files lie, who watches, and how fast it goes. How many processes share
# the work is no setting; that each normalizes by itself (sync_batchnorm=false) goes with their number.
NOT_IDENTITY = (
    "data_dir",
    "run",
    "results_dir",
    "machine",
    "tracking",
    "force",
    "launcher",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.progress",
    "trainer.sync_batchnorm",
    "trainer.checkpoint_every",
    "trainer.keep_every",
    "trainer.evaluate_occlusion_every",
    "trainer.occlusion_samples",
    "dataset.workers",
    "dataset.memory_limit_gb",
    "dataset.download",
    "dataset.cache_dir",
)


def identity(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration without the parts that do not change a run's result (`NOT_IDENTITY`).

    Raises:
        ReldropError: where a value is missing or an interpolation leads nowhere.
    """
    content = _portable(resolved(cfg))
    for key in NOT_IDENTITY:
        *parents, leaf = key.split(".")
        node: Any = content
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(leaf, None)
    return content


def run_hash(identity: dict[str, Any]) -> str:
    """Return 8 hexadecimal digits that stand for an identity, nested or flat."""
    canonical = json.dumps(dict(flatten(identity)), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def run_folder(cfg: DictConfig) -> Path:
    """Return the folder of the run that `cfg` describes, whether or not it exists.

    Raises:
        ReldropError: for a configuration that does not resolve, or a name that is no name for a folder.
    """
    content = identity(cfg)
    names = {"name": content["name"], "augmentation.name": content["augmentation"]["name"]}
    for key, name in names.items():
        if name is None or not re.fullmatch(r"\w[\w.+=-]*", str(name)):
            raise ReldropError(f"{key}={name!r} names a folder: use letters, digits and . _ + = - only")
    return Path(cfg.results_dir, "runs", *map(str, names.values()), f"seed{cfg.seed}-{run_hash(content)}")


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, with its interpolations resolved.

    Raises:
        ReldropError: where a value is missing or an interpolation leads nowhere.
    """
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ReldropError(f"the configuration does not resolve: {first_line(error)}") from error


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration with paths relative to data_dir, as `identity` has them: alike on all machines."""
    base = str(config.get("data_dir") or "")

    def relative(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: relative(item) for key, item in value.items()}
        inside = isinstance(value, str) and base and (value == base or value.startswith(f"{base}/"))
        return value[len(base) :] if inside else value

    return {key: value if key == "data_dir" else relative(value) for key, value in config.items()}

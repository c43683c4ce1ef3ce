"""From a composed configuration to objects, with checks before any work starts."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from reldrop.errors import ReldropError
from reldrop.trainer import TrainerConfig

_package = Path(__file__).parent
CONFIG_PATH = str(_package / "conf" if (_package / "conf").is_dir() else _package.parent / "conf")

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
    "scale",
    "launcher",
]
GROUPS = ("dataset", "backbone", "augmentation", "attribution", "optimizer", "scheduler", "launcher")
LABELS = {"augmentation": ("name",)}  # keys that name a choice and are no argument of what it builds


def check_keys(cfg: DictConfig) -> None:
    """Refuse keys that nothing reads.

    Raises:
        ReldropError: naming the key, and the nearest one that exists.
    """
    refuse_unknown("", cfg, TOP_LEVEL)
    for group in GROUPS:
        check_group(cfg, group)
    refuse_unknown("trainer", cfg.trainer, [field.name for field in fields(TrainerConfig)])
    refuse_unknown("tracking", cfg.tracking, ["mode", "project", "entity", "group", "tags", "job_type"])
    refuse_unknown("scale", cfg.get("scale", {}), ["suffix"])


def check_group(cfg: DictConfig, group: str) -> None:
    """Refuse keys of a group that what it builds does not take.

    Raises:
        ReldropError: naming the key, and the nearest one that exists.
    """
    parameters = inspect.signature(get_object(cfg[group]["_target_"])).parameters
    # `**options` would take anything; none of the targets has it
    refuse_unknown(group, cfg[group], ["_target_", "_partial_", *LABELS.get(group, ()), *parameters])


def check_scale(cfg: DictConfig) -> None:
    """Refuse a run of a small scale (conf/scale) whose name would let it pass for a result.

    Raises:
        ReldropError: if the name does not end with the suffix of the scale.
    """
    suffix = cfg.get("scale", {}).get("suffix", "")
    if not str(cfg.name).endswith(suffix):
        raise ReldropError(
            f"name={cfg.name} must end with {suffix}, for runs of this scale are no results; e.g. name={cfg.name}{suffix}"
        )


def check_inputs(cfg: DictConfig) -> None:
    """Refuse networks and augmentations that are not for what the data set holds, images or point clouds.

    Raises:
        ReldropError: naming the part that does not fit.
    """
    parts = {group: get_object(cfg[group]["_target_"]) for group in ("dataset", "backbone", "augmentation")}
    data = getattr(inspect.signature(parts["dataset"]).return_annotation, "inputs", None)
    fitting = {
        "images": "a ResNet, and none, random_erasing or reldrop_block, _patch or _pixel",
        "points": "pointnet or pointnet2_ssg or _msg, and none, random_point_dropout or reldrop_point",
    }
    for group in ("backbone", "augmentation"):
        takes = getattr(parts[group], "inputs", None)
        if data is not None and takes is not None and takes != data:
            raise ReldropError(
                f"{group} {cfg[group].get('name')} is for {takes}, but dataset {cfg.dataset.get('name')} has {data}, which "
                f"go with {fitting[data]}"
            )
    if cfg.trainer.channels_last and data == "points":
        raise ReldropError("trainer.channels_last=true is for images; point clouds have their channels last anyway")


def refuse_unknown(group: str, node: DictConfig, known: Sequence[str]) -> None:
    """Refuse keys of a part of the configuration that are not known.

    Raises:
        ReldropError: naming the key, and the nearest one that is.
    """
    for key in node:
        if key not in known:
            prefix = f"{group}." if group else ""
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ReldropError(f"{prefix}{key} is not a setting; {hint}")


def build(cfg: DictConfig, group: str, *args: Any, **options: Any) -> Any:
    """Return what a group of the configuration describes, built with these further arguments.

    Raises:
        ReldropError: if it refuses its settings.
    """
    settings = {key: value for key, value in cfg[group].items() if key not in LABELS.get(group, ())}
    try:
        return instantiate(settings, *args, **options)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ReldropError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError):  # e.g. an optimizer's "Invalid learning rate"
            raise ReldropError(f"{group} ({cfg[group]['_target_']}) cannot be built: {cause}") from error
        raise


def suggest(
    overrides: Sequence[str],
    config_path: str,
    config_name: str = "train",
    groups: Sequence[str] = (*GROUPS, "trainer", "tracking"),
) -> str | None:
    """Return a hint for the first override of a command line whose key does not exist, for Hydra's own message has none.

    Args:
        overrides: the words of the command line.
        config_path: folder of the configurations.
        config_name: which of them the command composes.
        groups: those of it.
    """
    chosen = [
        text for text in overrides if text.split("=")[0].lstrip("+") in (*groups, "experiment") and "," not in text
    ]
    with initialize_config_dir(config_path, version_base="1.3"):
        try:
            composed = compose(config_name, chosen)  # the keys of what was chosen
        except HydraException:  # a choice may be what is wrong
            composed = compose(config_name)
    known = [*_dotted(composed), *groups]
    for override in overrides:
        key = override.split("=")[0]
        near = get_close_matches(key, known, n=1, cutoff=0.75)
        if "=" in override and key not in known and not key.startswith(("+", "~", "hydra")) and near:
            return f"error: {key} is not a setting; did you mean {near[0]}?"
    return None


def _dotted(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(node._get_node(key)):
            yield from _dotted(node[key], f"{prefix}{key}.")

"""From a composed configuration to objects, with checks before any work starts."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from reldrop.utils.errors import ReldropError, first_line, own_frames, raised
from reldrop.utils.io import absolute
from reldrop.utils.machine import Machine
from reldrop.utils.types import Group, Seed, Text, check_settings

_package = Path(__file__).parent
CONFIG_PATH = str(_package / "conf" if (_package / "conf").is_dir() else _package.parent / "conf")

PATHS = ("data_dir", "results_dir", "machine.cache_dir")


# What the names of networks have for their sizes: resnet18, vit_tiny_patch16_224, efficientnet_b0, pointnet2_ssg.
SIZE = r"_?\d\d|_(?:tiny|small|base|large|huge|micro|mini|atto|femto|pico|nano|[bf]\d|ssg|msg)(?=_|$)"


def _experiment_name(dataset: str | None, folder: Text | None, backbone: object) -> str:
    """Return DATASET_NETWORK as a name for a folder: photos_resnet for resnet18 on the folder my/photos."""
    network = re.split(SIZE, str(backbone).partition(".")[0])[0] or backbone
    return re.sub(r"[^\w.+=-]+", "-", f"{dataset or Path(str(folder)).name}_{network}").lstrip("-.+=")


OmegaConf.register_new_resolver("experiment_name", _experiment_name, replace=True)


@dataclass(frozen=True)
class RunSettings:
    """The top level of conf/train.yaml: a run's own settings, and the groups."""

    name: Text
    seed: Seed
    data_dir: str
    results_dir: str
    force: bool
    run: Text | None
    dataset: Group
    backbone: Group
    augmentation: Group
    attribution: Group
    optimizer: Group
    scheduler: Group
    trainer: Group
    monitor: Group
    machine: Group
    tracking: Group
    launcher: Group
    scale: Group


GROUPS = tuple(each.name for each in fields(RunSettings) if each.type is Group and each.name != "scale")


@dataclass(frozen=True)
class Scale:
    """A scale of runs (conf/scale): how their names end."""

    suffix: str


def check(settings: DictConfig | Mapping[str, Any], target: Callable[..., Any], groups: Sequence[str] = ()) -> None:
    """Refuse settings that `target` does not take, and settings of `groups` in it that those do not take.

    Raises:
        ReldropError: naming the key, its value, and what would be right.
    """
    content = resolved(settings)
    check_settings(content, target)
    for group in groups:
        if group in content:
            check_settings(content[group], _target(content[group], group), group)


def check_group(cfg: DictConfig, group: str) -> None:
    """Refuse settings of a group that what it describes does not take, by a `ReldropError` as `check` does."""
    content = resolved(cfg[group])
    check_settings(content, _target(content, group), group)


def check_keys(cfg: DictConfig) -> None:
    """Refuse settings of a training run that nothing reads, or that are of a wrong type or out of range.

    Raises:
        ReldropError: naming the key, its value, and what would be right.
    """
    check_choices(f"{group}=null" for group in GROUPS if cfg.get(group) is None)
    for group in ("dataset", "backbone", "augmentation", "attribution"):
        if "name" not in cfg[group]:
            raise ReldropError(
                f"{group} has no name, by which its runs are told apart; add a line name: NAME to its YAML"
            )
    check(cfg, RunSettings)
    if kind_of_data(cfg) is None:
        raise ReldropError(
            f"dataset._target_={cfg.dataset._target_} makes no data set; it must be a function that returns a listing, with "
            "@image_dataset or @point_dataset above it"
        )
    check(cfg, RunSettings, groups=GROUPS)
    if "scale" in cfg:
        check_settings(resolved(cfg.scale), Scale, "scale")


def check_choices(overrides: Iterable[str]) -> None:
    """Refuse GROUP=null and GROUP=3, for which Hydra has only a traceback.

    Raises:
        ReldropError: naming the choices of the group.
    """
    for override in overrides:
        group, _, choice = override.lstrip("+").partition("=")
        if group in (*GROUPS, "experiment", "scale") and re.fullmatch(
            r"null|true|false|[-+.\d]*", choice, re.IGNORECASE
        ):
            names = sorted(file.stem for file in Path(CONFIG_PATH, group).glob("[!_]*.yaml"))
            what = f"{group} has no choice" if choice == "null" else f"{override} is not a choice"
            plus = "" if group in GROUPS else "+"
            raise ReldropError(f"{what}; set {plus}{group}=NAME, one of {', '.join(names)}")


def absolute_paths(cfg: DictConfig) -> None:
    """Make the paths of a configuration absolute, from the current folder; ~ is the home of the user.

    Raises:
        ReldropError: for ~USER where there is no such user.
    """
    for key in PATHS:
        if isinstance(path := OmegaConf.select(cfg, key), str | int | float):  # a list is refused later
            OmegaConf.update(cfg, key, str(absolute(path)))


def resolved(settings: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain values, with their interpolations resolved.

    Raises:
        ReldropError: where a value is missing or an interpolation leads nowhere.
    """
    if not isinstance(settings, DictConfig):
        return dict(settings)
    try:
        return OmegaConf.to_container(settings, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ReldropError(f"{error.full_key} has no value; set {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ReldropError(f"the configuration does not resolve: {first_line(error)}") from error


def _target(settings: Mapping[str, Any], group: str) -> Callable[..., Any]:
    """Return the class or function that a group describes."""
    path = settings.get("_target_")
    module, _, name = str(path).rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except Exception as error:  # importing it may raise anything
        missing = isinstance(error, ModuleNotFoundError) and module.split(".")[0] == error.name
        advice = f"; start the command in the folder of {error.name}.py, or put that on PYTHONPATH" if missing else ""
        raise ReldropError(f"{group}._target_={path} cannot be imported: {raised(error)}{advice}") from error
    if not callable(target):
        raise ReldropError(f"{group}._target_={path} is no class or function")
    return target


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
    data = kind_of_data(cfg)
    fitting = {
        "images": "a ResNet, and none, random_erasing or reldrop_block, _patch or _pixel",
        "points": "pointnet or pointnet2_ssg or _msg, and none, random_point_dropout, reldrop_point, random_ball, reldrop_ball",
    }
    for group in ("backbone", "augmentation"):
        takes = getattr(_target(cfg[group], group), "kind", None)
        if data is not None and takes is not None and takes != data:
            raise ReldropError(
                f"{group} {cfg[group].get('name')} is for {takes}, but dataset {cfg.dataset.get('name')} has {data}, which "
                f"go with {fitting[data]}"
            )
    if cfg.trainer.channels_last and data == "points":
        raise ReldropError("trainer.channels_last=true is for images; point clouds have their channels last anyway")


def kind_of_data(cfg: DictConfig) -> str | None:
    """Return what the data set holds, "images" or "points"; None if its target makes no data set."""
    target = _target(cfg.dataset, "dataset")
    return getattr(target, "kind", None) or getattr(inspect.signature(target).return_annotation, "kind", None)


def build(cfg: DictConfig, group: str, *args: Any, **options: Any) -> Any:
    """Return what a group of the configuration describes.

    Args:
        cfg: the whole configuration.
        group: which of its groups.
        args: further arguments of what is built.
        options: what it may want to know, e.g. of the data; it gets those that it has parameters for. One that takes a
            `machine` gets that of the configuration, unless it is here.

    Raises:
        ReldropError: if it refuses its settings, or is of the user's own and raises an error.
    """
    target = _target(cfg[group], group)
    parameters = inspect.signature(target).parameters
    settings = {key: value for key, value in cfg[group].items() if key != "name" or key in parameters}  # else a label
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        options = {key: value for key, value in options.items() if key in parameters}
    if "machine" in parameters and "machine" not in options:
        options["machine"] = machine(cfg)
    try:
        return instantiate(settings, _partial_=True, _convert_="all")(*args, **options)
    except Exception as error:
        expected = isinstance(error, TypeError | ValueError | InstantiationException) or own_frames(error)
        if isinstance(error, ValueError) and str(error).partition("=")[0] in parameters:
            raise ReldropError(f"{group}.{error}") from error
        if isinstance(error, ReldropError) or not expected:
            raise
        cause = isinstance(error, InstantiationException) and error.__cause__  # of an object inside the group
        raise ReldropError(f"{group} ({cfg[group]['_target_']}) cannot be built: {raised(cause or error)}") from error


def machine(cfg: DictConfig) -> Machine:
    """Return the machine that a configuration names, with the `data_dir` of its top level.

    Raises:
        ReldropError: for a wrong setting.
    """
    settings = resolved(cfg.get("machine", {}))
    data_dir = cfg.get("data_dir")
    check_settings(settings, Machine, "machine")
    own = {key: value for key, value in settings.items() if key not in ("_target_", "name")}
    return Machine(**own) if data_dir is None else Machine(**{**own, "data_dir": data_dir})

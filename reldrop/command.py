"""How every command runs: a configuration in, and for a mistake one sentence and exit code 1."""

import fnmatch
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import reldrop
from reldrop.config import CONFIG_PATH, absolute_paths, check_choices
from reldrop.distributed.launch import abort, launched
from reldrop.runs.environment import OWN_FOLDER
from reldrop.runs.trust import trust
from reldrop.utils.errors import ReldropError, first_line, own_frames, raised
from reldrop.utils.io import absolute
from reldrop.utils.nested import flatten
from reldrop.utils.text import nearest, unknown

CONFIG_DIR = "--config-dir="  # before the folder of the user's own choices, as Hydra takes it


def run_command(task: Callable[[DictConfig], Any], name: str, interrupted: str) -> None:
    """Run a task with the configuration that the command line makes of conf/NAME.yaml, in the folder of the command.

    A mistake, i.e. a `ReldropError` or one of Hydra's, ends the process with one sentence and code 1. `--version` prints
    the version and ends it with code 0.

    Args:
        task: what the command does.
        name: of the configuration.
        interrupted: what to print after a Ctrl-C.
    """
    if "--version" in sys.argv[1:]:
        print(f"reldrop {reldrop.__version__}")
        sys.exit()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors, for us to explain; Hydra would print them
    os.environ.pop(
        "MPLBACKEND", None
    )  # of a notebook that the command is started from; it needs packages of the notebook

    @wraps(task)
    def main(cfg: DictConfig) -> Any:
        with _mistakes(name, interrupted):  # Hydra prints a line about errors that reach it
            os.chdir(HydraConfig.get().runtime.cwd)  # whatever hydra.job.chdir says
            absolute_paths(cfg)
            return task(cfg)

    with _mistakes(name, interrupted):
        sys.argv[1:] = find_own_parts(sys.argv[1:])
        _check_options(sys.argv[1:])
        check_choices(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=name)(main)()


@contextmanager
def _mistakes(name: str, interrupted: str) -> Iterator[None]:
    """End the process where the block raises an error: of its user in one sentence, of others as it is."""
    try:
        yield
    except BrokenPipeError:  # whoever reads what is printed, e.g. `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        abort(f"interrupted; {interrupted}")
    except ReldropError as error:
        abort(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        abort(f"error: {_explained(error, sys.argv[1:], name)}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        abort(f"error: {mark.name}, line {mark.line + 1}, is no YAML: {error.problem}")
    except Exception as error:
        if own := own_frames(error):
            frames = "".join(traceback.format_list(own))
            abort(f"error: your own code fails: {raised(error)}\n{frames.rstrip()}", known=False)
        if launched().processes == 1:
            raise
        abort(traceback.format_exc(), known=False)


def find_own_parts(words: Sequence[str]) -> list[str]:
    """Let parts of the user's own be imported from the current folder and from that of --config-dir, and named in run folders.

    The processes that this one starts, e.g. those of a sweep, inherit both.

    Args:
        words: of the command line.

    Returns:
        The same words, with -m and --config-dir first: Hydra does not take them between others.

    Raises:
        ReldropError: if there is no such folder, or a file in it has the name of a choice of this package, which Hydra
            would take instead.
    """
    others, rest = [], iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            os.environ[OWN_FOLDER] = str(absolute(value if equals else next(rest, "")))
        else:
            others.insert(0 if word in ("-m", "--multirun") else len(others), word)
    folder = os.environ.get(OWN_FOLDER)
    trust(words, folder)
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for paths in (sys.path, inherited):
        paths += [each for each in (os.getcwd(), folder) if each and each not in paths]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, inherited))
    if folder is None:
        return others
    if not Path(folder).is_dir():
        raise ReldropError(f"--config-dir {folder} is no folder; it must be one that holds GROUP/CHOICE.yaml")
    ours = Path(CONFIG_PATH)
    names = [file.relative_to(ours) for file in ours.rglob("*.yaml")]
    hidden = [path for name in names if (path := Path(folder, name)).is_file() and not path.samefile(ours / name)]
    if hidden:
        raise ReldropError(f"{min(hidden)} has the name of a choice of this package; give the file another name")
    return [CONFIG_DIR + folder, *others]


def _check_options(words: Sequence[str]) -> None:
    """Refuse options that Hydra does not have: it would print how it is called, and nothing of settings."""
    for option in get_args_parser().parse_known_args(list(words))[1]:
        if option.startswith("-"):
            key, _, value = option.lstrip("-").partition("=")
            raise ReldropError(
                f"{option} is no option; settings are KEY=VALUE, without dashes: {key}={value or 'VALUE'}"
            )


def _explained(error: HydraException | OmegaConfBaseException, words: Sequence[str], name: str) -> str:
    """Return in a sentence what is wrong with the words of a command line, for which Hydra has raised an error."""
    said = first_line(error)
    if isinstance(error, OmegaConfBaseException):
        return f"the configuration does not resolve: {said}"
    if several := re.fullmatch(r"Ambiguous value for argument '(.*?)=(.*)'", said):
        key, values = several.groups()
        return f"{key} has several values; for several runs: -m {key}={values}; for a list: {key}=[{values}]"
    if there := re.fullmatch(r".* An item is already at '(.*)'\.", said):
        return f"{there[1]} is a setting already; leave out the +"
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        if not equals:
            return f"{key} is no setting; settings are KEY=VALUE, see --help"
        return f"{error.override} cannot be read ({said}); if it is one value, quote it: \"{key}='{value}'\""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return unknown(f"{group}={choice} is not a choice", choice, error.options)
    cause = f" ({first_line(error.__cause__)})" if error.__cause__ else ""
    return _misspelled(words, name) or f"the configuration cannot be composed: {said}{cause}"


def _misspelled(words: Sequence[str], name: str) -> str | None:
    """Return a sentence about the first word of a command line whose key does not exist; None if there is none."""
    own = [word.removeprefix(CONFIG_DIR) for word in words if word.startswith(CONFIG_DIR)]
    groups = [path.name for folder in (CONFIG_PATH, *own) for path in Path(folder).iterdir() if path.is_dir()]
    settings = [word for word in words if "=" in word and not word.startswith(("-", "~"))]
    chosen = [word for word in settings if word.split("=")[0].lstrip("+") in groups and "," not in word]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        try:
            composed = compose(name, [f"hydra.searchpath={own}", *chosen])  # the keys of what was chosen
        except HydraException:  # a choice may be what is wrong
            composed = compose(name)
    known = {*groups}
    for key, _ in flatten(OmegaConf.to_container(composed)):
        parts = key.split(".")
        known |= {".".join(parts[: count + 1]) for count in range(len(parts)) if parts[count] != "_target_"}
    for key in (word.split("=")[0] for word in settings):
        if key in composed or key.startswith("+") or (key.startswith("hydra.") and "launcher" not in key):
            continue
        if key in groups:
            return f"{key} is not chosen by default; choose it with +{key}=NAME"
        options = [each.rpartition(".")[2] for each in fnmatch.filter(known, "launcher.*")]
        if key not in known and "launcher." in key and not nearest(key.rpartition(".")[2], options):
            option = f"launcher.slurm_additional_parameters={{{key.rpartition('.')[2]}: VALUE}}"
            return f"{key} is not a setting; options of sbatch are set by launcher=slurm '{option}'"
        if key not in known:
            grouped = sorted(each for each in known if each.endswith(f".{key}"))
            advice = f"did you mean {' or '.join(grouped)}?" if grouped else "see --help"
            return unknown(f"{key} is not a setting", key, [] if grouped else known, advice)
    return None

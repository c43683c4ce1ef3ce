"""What a configuration may name that was not composed here: run folders come from elsewhere as well, and must not run code."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from reldrop.config import CONFIG_PATH, GROUPS
from reldrop.utils.errors import ReldropError
from reldrop.utils.nested import flatten

OWN_PARTS = "RELDROP_OWN_PARTS"  # environment variable: what `trust` has been told, also for processes that are started


def trust(words: Sequence[str], folder: str | Path | None = None) -> None:
    """Let run folders name the parts (`_target_`) that the user has named.

    Args:
        words: of a command line.
        folder: with GROUP/CHOICE.yaml of the user's own; other files in it, which may be downloaded, do not count.
    """
    groups = [path.name for path in Path(CONFIG_PATH).iterdir() if path.is_dir()] if folder else []
    choices = [file.read_text(errors="replace") for group in groups for file in Path(folder, group).rglob("*.yaml")]
    named = {*os.environ.get(OWN_PARTS, "").split(), *_targets(*words, *choices)}
    os.environ[OWN_PARTS] = " ".join(sorted(named))


def check_plain(settings: Any) -> None:
    """Refuse a configuration, not resolved yet, with values that are computed when they are read.

    Raises:
        ValueError: naming the key.
    """
    for key, value in _leaves(settings):
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{key}={value} is no plain value; one that is computed is not read from a run folder")


def check_parts(settings: Any, file: Path) -> None:
    """Refuse a configuration that names parts which are neither choices of conf/ nor of the user's own.

    Nothing is imported or resolved.

    Raises:
        ReldropError: naming the key, and how to use a part of one's own.
    """
    own = os.environ.get(OWN_PARTS, "").split()
    for key, value in _leaves(settings):
        group, _, rest = key.partition(".")
        if re.fullmatch("_[a-z]+_", key.rpartition(".")[2]):  # those of Hydra
            known = group in GROUPS and rest == "_target_" and value in _shipped()
            if not known and value not in own:
                raise ReldropError(
                    f"{file}: {key}={value} is no part of this package, and is not imported; if it is one of your own, give "
                    "--config-dir=FOLDER with a choice that names it"
                )


def _leaves(settings: Any) -> Iterator[tuple[str, Any]]:
    plain = OmegaConf.to_container(settings) if OmegaConf.is_config(settings) else settings  # nothing is resolved
    return flatten(plain, lists=True)


@cache
def _shipped() -> set[str]:
    return _targets(*(file.read_text() for file in Path(CONFIG_PATH).rglob("*.yaml")))


def _targets(*texts: str) -> set[str]:
    return {target for text in texts for target in re.findall(r"""_target_['"]?\s*[:=]\s*['"]?([\w.]+)""", text)}

"""The command that would add runs to a table, from what a run beside them was started with."""

import re
import shlex
from collections.abc import Iterable

from reldrop.reporting.records import Record, as_text


def command_like(run: Record, seeds: Iterable[int], augmentation: str) -> str | None:
    """Return the command for these seeds of an augmentation, all else being as in `run`; None if that is not known."""
    words = _overrides(run)
    if words is None:
        return None
    dropped = ["seed", "force"]
    if augmentation != run.augmentation:  # its settings are none of the other's
        dropped.append("augmentation")
        words = [word for word in words if not re.match(r"[+~]*augmentation[.@]", word)]
    words = [word for word in words if word.lstrip("+").partition("=")[0] not in dropped]
    if augmentation != run.augmentation:
        words.append(f"augmentation={augmentation}")
    seeds = sorted(seeds)
    words.append(f"seed={','.join(map(str, seeds))}")
    return shlex.join(["python", "-m", "reldrop.train", *(["-m"] if len(seeds) > 1 else []), *words])


def _overrides(run: Record) -> list[str] | None:
    """What the last start of a run had for overrides; of older runs, what its command says, with the run's own values."""
    if not run.starts:
        return None
    start = run.starts[-1]
    if start.get("overrides") is not None:
        return list(start["overrides"])
    program, *words = shlex.split(start.get("command", "")) or [""]
    if not re.search(r"(^|[\\/.])train(\.py)?$", program):  # started by something that says nothing of the run
        return None
    if any(
        word.startswith("+experiment=paper/") for word in words
    ):  # whose grid is in the experiment, not in the command
        return None
    words = [word for word in words if not word.startswith(("-", "hydra.", "hydra/"))]
    chosen = [_chosen(word, run) for word in words]
    return None if None in chosen else chosen


def _chosen(word: str, run: Record) -> str | None:
    """Put a run's own value in place of a sweep's values; None where it is not known."""
    key, _, value = word.partition("=")
    if not _is_sweep(value):
        return word
    name = key.lstrip("+")
    if name in ("seed", "augmentation"):
        return f"{key}={run.seed if name == 'seed' else run.augmentation}"
    own = {"experiment": "name"}.get(name, name)
    for setting in (own, f"{own}.name"):
        if setting in run.settings:
            return f"{key}={as_text(run.settings[setting])}"
    return None


def _is_sweep(value: str) -> bool:
    """Whether Hydra reads several values: commas outside of brackets and quotes, or a range or choice."""
    return "," in _without_groups(value) or re.match(r"(range|choice|interval|glob)\(", value) is not None


def _without_groups(value: str) -> str:
    pattern = r"\[[^\[\]]*\]|\{[^{}]*\}|\([^()]*\)|'[^']*'|\"[^\"]*\""
    while (shorter := re.sub(pattern, "", value)) != value:
        value = shorter
    return value

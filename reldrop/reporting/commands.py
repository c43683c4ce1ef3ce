"""The command that adds missing runs to a table, from the overrides of a similar run."""

import re
import shlex
from collections.abc import Iterable

from reldrop.reporting.records import Record


def command_like(run: Record, seeds: Iterable[int], augmentation: str) -> str | None:
    """Return the command for these seeds of an augmentation, otherwise as `run`; None if its overrides are not recorded."""
    words = run.starts[-1].get("overrides") if run.starts else None
    if words is None:
        return None
    own, seeds = [], sorted(seeds)
    dropped = r"seed=|force="
    if augmentation != run.augmentation:  # its settings are none of the other's
        dropped += r"|augmentation[.@=]"
        own.append(f"augmentation={augmentation}")
    words = [word for word in words if not re.match(rf"[+~]*({dropped})", word)]
    sweep = ["-m"] if len(seeds) > 1 else []
    if folder := run.starts[-1].get("config_dir"):  # of the user's own parts
        sweep += ["--config-dir", folder]
    return shlex.join(["python", "-m", "reldrop.train", *sweep, *words, *own, f"seed={','.join(map(str, seeds))}"])

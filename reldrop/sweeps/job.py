"""A run of a sweep on its way to the process that trains it: its folder, see `reldrop.runs.run.prepare`."""

import re
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MODULE = "reldrop.train"  # that trains a folder


@dataclass(frozen=True)
class Job:
    """A prepared run. Its folder holds the configuration from when the sweep began: later changes of files do not matter."""

    folder: Path

    @property
    def label(self) -> str:
        """The name of the run as that of a file: experiment, augmentation, and seed with hash."""
        return ".".join(self.folder.parts[-3:])

    @property
    def command(self) -> list[str]:
        """What trains the run in a process of its own."""
        return [sys.executable, "-m", MODULE, f"run={_quoted(self.folder)}"]

    def __call__(self) -> str | None:
        """Do the same in this process; return what went wrong, in a line, or None.

        Raises:
            SystemExit: after a signal, or if submitit has put the job back into the queue.
        """
        sys.argv = self.command[2:]
        try:
            runpy.run_module(MODULE, run_name="__main__")
        except SystemExit as stop:
            if isinstance(stop.code, int) and stop.code not in (0, 1):
                raise
            return str(stop.code).removeprefix("error: ") if stop.code else None
        return None

    def checkpoint(self) -> Any:
        """Return, for submitit to put back into the queue, the same job: a run goes on from the checkpoint in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Launcher(Protocol):
    """Trains the runs of a sweep.

    Attributes:
        waits: whether the runs are over when `run` returns.
        interrupted: what to print after a Ctrl-C.
    """

    waits: bool
    interrupted: str

    def run(self, jobs: Sequence[Job], logs: Path, train: Callable[[Path], Any]) -> list[str | None]:
        """Train `jobs`; return for each what went wrong, in a line, or None, or, if it does not wait, its number.

        Args:
            jobs: the runs.
            logs: folder for files of the launcher.
            train: trains a run folder in this process.

        Raises:
            ReldropError: if none of them can be started.
        """
        ...


def _quoted(path: Path) -> str:
    """Return a path as Hydra's command line takes it, whatever characters it has."""
    text = str(path)
    return text if re.fullmatch(r"[\w./+-]+", text) else "'" + text.replace("'", r"\'") + "'"

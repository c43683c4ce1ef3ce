"""Signals that ask a run to stop: a note when they come, a checkpoint and a way out between two steps."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# What kills politely, and what comes before SLURM's time limit. SLURM sends either to all processes of a job.
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Interruptions:
    """As a context manager, keeps `SIGNALS` from doing anything but leave a note, for `noted` to return.

    `hand_on` then does what the signal would have done before: the earlier handler is called, and where there was none,
    the process leaves with code 128 + the signal's number, as shells have it. Under submitit, the handler of SIGUSR2 requeues
    the job and leaves; that of SIGTERM returns, for it is SLURM that ends the job, and perhaps requeues it.

    A note that is left at the end of the block is handed on there. So is one that meets with an error: what else the signal
    has ended, such as another process, may be the reason for it.
    """

    def __init__(self) -> None:
        self._noted: set[int] = set()
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():  # Python lets no other one have handlers
            self._earlier = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if error is None or isinstance(error, Exception):
            for number in self.noted():
                self.hand_on(number)

    def noted(self) -> list[int]:
        """Return the signals that have come and are not handed on yet."""
        return sorted(self._noted)

    def hand_on(self, number: int) -> None:
        """Do what the signal would have done; returns if that leaves the process running."""
        self._noted.discard(number)
        earlier = self._earlier.get(number, signal.SIG_DFL)
        if callable(earlier):
            earlier(number, None)
        elif earlier != signal.SIG_IGN:
            sys.exit(128 + number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.add(number)


def ignore_signals(_: int = 0) -> None:
    """Leave the end of a data worker to the process that it works for, which all of `SIGNALS` and a Ctrl-C reach as well."""
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

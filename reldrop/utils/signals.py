"""Signals that ask a run to stop: noted when they come, acted on between two steps, after a checkpoint."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# SIGTERM is what `kill` sends, SIGUSR2 comes before SLURM's time limit. SLURM sends either to all processes of a job.
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Signals:
    """As a context manager, keeps `SIGNALS` from having an effect; `received` returns those that have come.

    `hand_on` then does what the signal would have done: it calls the earlier handler; where there was none, the process exits
    with code 128 + the signal's number, as in shells. Under submitit, the handler of SIGUSR2 requeues the job and exits; that
    of SIGTERM returns, for SLURM ends the job itself, and perhaps requeues it.

    A signal that is left at the end of the block is handed on there, also when an error ends the block: whatever else the
    signal has ended, such as another process, may be the reason for the error.
    """

    def __init__(self) -> None:
        self._received: set[int] = set()
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            self._earlier = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if error is None or isinstance(error, Exception):
            for number in self.received():
                self.hand_on(number)

    def received(self) -> list[int]:
        """Return the signals that have come and are not handed on yet."""
        return sorted(self._received)

    def hand_on(self, number: int) -> None:
        """Do what the signal would have done; returns if the process goes on after that."""
        self._received.discard(number)
        earlier = self._earlier.get(number, signal.SIG_DFL)
        if callable(earlier):
            earlier(number, None)
        elif earlier != signal.SIG_IGN:
            sys.exit(128 + number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.add(number)


def ignore_signals(_: int = 0) -> None:
    """Leave the end of a data worker to its process, which `SIGNALS` and a Ctrl-C reach as well."""
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

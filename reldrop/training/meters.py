"""What is counted, and timed, while an epoch goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class EpochMeter:
    """Sums over the batches of an epoch so far, of all processes and in all of them, on the device.

    They are part of the checkpoint, so that a resumed epoch ends alike.
    """

    samples: int = 0
    loss: Tensor | float = 0.0
    occluded: Tensor | float = 0.0  # sum over samples of the share of pixels or points that changed
    conserved: list[Tensor] = field(default_factory=list)  # sum of relevance of each attributed sample
    attributed: bool = False
    seconds: float = 0.0
    attribution_seconds: float = 0.0

    def record(self) -> dict[str, float | None]:
        """Return the figures of the epoch."""
        conserved = torch.cat(self.conserved).median().item() if self.conserved else None
        return {
            "train_loss": float(self.loss) / self.samples,
            "occluded_share": float(self.occluded) / self.samples,
            "conservation": conserved,
            "samples_per_second": self.samples / self.seconds,
            "attribution_share": self.attribution_seconds / self.seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Timer:
    """Adds up the time of blocks of work: on the host's clock, or between events on a CUDA device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []

    def time(self, work: Callable[..., Tensor], *args: Any) -> Tensor:
        """Return work(*args)."""
        if not self._cuda:
            start = time.perf_counter()
            result = work(*args)
            self._seconds += time.perf_counter() - start
            return result
        events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        events[0].record()
        result = work(*args)
        events[1].record()
        self._events.append(events)
        return result

    def take(self) -> float:
        """Return the seconds since the last call; waits for the device."""
        if self._events:
            self._events[-1][1].synchronize()
        seconds = self._seconds + sum(start.elapsed_time(end) for start, end in self._events) / 1000
        self._seconds, self._events = 0.0, []
        return seconds

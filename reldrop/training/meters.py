"""What is counted and timed during an epoch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from reldrop.distributed.launch import gather
from reldrop.distributed.sharding import Shard
from reldrop.utils.tensors import channel_axis


class EpochMeter:
    """Sums over the batches of an epoch so far and over all processes, kept on the device.

    They are part of a checkpoint, so that a resumed epoch ends with the same figures.
    """

    def __init__(self, device: torch.device, processes: int = 1) -> None:
        self.device, self.processes = device, processes
        self.timer = Timer(device)  # of attributions
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.samples = 0
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # of loss, and share of changed positions
        self.seconds, self.attribution_seconds = 0.0, 0.0
        self.relevance_sums = torch.zeros(0, device=self.device)  # of each attributed sample
        self._own_relevance_sums: list[Tensor] = []  # those of this process since `gather`
        self.start()

    def start(self) -> None:
        """Start the clock; the time until `update`, and between updates, is that of the training."""
        self._started = time.perf_counter()

    def update(self, loss: Tensor, inputs: Tensor, occluded: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
        """Count a batch.

        Args:
            loss: mean over the samples of this process.
            inputs: (B, ...), before their occlusion.
            occluded: the same after it.
            shard: which rows of the batch they are.

        Returns:
            The mean loss over the whole batch, of all processes, and the share of its positions that the occlusion changed.
        """
        sums = torch.stack([loss.double() * shard.items, loss.new_zeros((), dtype=torch.float64)])
        if occluded is not inputs:
            changed = (occluded != inputs).any(channel_axis(inputs)).flatten(1).double().mean(1)
            sums[1] = changed.sum() * (shard.items / len(inputs))
        if self.processes > 1:
            dist.all_reduce(sums)
            loss = sums[0] / shard.count
        self.samples += shard.count
        self.sums += sums
        self._lap()
        return loss, sums[1] / shard.count

    def add_relevance(self, maps: Tensor) -> None:
        """Count attributed samples, whose relevance is meant to sum to 1."""
        self._own_relevance_sums.append(maps.flatten(1).sum(1))

    def gather(self) -> None:
        """Collect what each process has counted for itself; all processes call it."""
        parts = gather([values.cpu() if self.processes > 1 else values for values in self._own_relevance_sums])
        values = [values.to(self.device) for process in parts for values in process]
        self.relevance_sums, self._own_relevance_sums = torch.cat([self.relevance_sums, *values]), []
        self.attribution_seconds += self.timer.take()

    def compute(self) -> dict[str, float | None]:
        """Return the figures of the epoch, after `gather`; waits for the device."""
        if self.device.type == "cuda":  # the clock must not stop before the device does
            torch.cuda.synchronize(self.device)
        self._lap()
        loss, changed = (self.sums / self.samples).tolist()
        return {
            "train/loss": loss,
            "train/occluded_share": changed,
            "attribution/conservation": self.relevance_sums.median().item() if len(self.relevance_sums) else None,
            "speed/samples_per_second": self.samples / self.seconds,
            "attribution/share_of_time": self.attribution_seconds / self.seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        keys = ("samples", "sums", "seconds", "attribution_seconds", "relevance_sums")
        return {key: getattr(self, key) for key in keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value.to(self.device) if isinstance(value, Tensor) else value)

    def _lap(self) -> None:
        now = time.perf_counter()
        self.seconds, self._started = self.seconds + now - self._started, now


class Timer:
    """Adds up the time of blocks: on the host's clock, or between events on a CUDA device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []

    @contextmanager
    def time(self) -> Iterator[None]:
        """Time the block."""
        if not self._cuda:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def take(self) -> float:
        """Return the seconds since the last call; waits for the device."""
        if self._events:
            self._events[-1][1].synchronize()
        seconds = self._seconds + sum(start.elapsed_time(end) for start, end in self._events) / 1000
        self._seconds, self._events = 0.0, []
        return seconds

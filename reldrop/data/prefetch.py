"""Batches on their way to the device."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

Extra = TypeVar("Extra")


def on_device(batches: Iterator[tuple[Tensor, Extra]], device: torch.device) -> Iterator[tuple[Tensor, Extra]]:
    """Yield the batches with their tensors on `device`.

    A CUDA device copies a batch on a stream of its own while it works on the one before; the tensors must then be in
    page-locked memory.
    """
    if device.type != "cuda":
        for batch, extra in batches:
            yield batch.to(device), extra
        return
    copying = torch.cuda.Stream(device)
    ready = None
    for batch, extra in batches:
        with torch.cuda.stream(copying):
            copied = batch.to(device, non_blocking=True)
        if ready is not None:
            yield ready
        working = torch.cuda.current_stream(device)
        working.wait_stream(copying)
        copied.record_stream(working)  # its memory is not used again before the work on it is done
        ready = copied, extra
    if ready is not None:
        yield ready

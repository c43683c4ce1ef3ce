"""How inputs are laid out: images (B, C, H, W), point clouds (B, N, C); and how values come to the host."""

from collections.abc import Callable

import torch
from torch import Tensor


def channel_axis(inputs: Tensor) -> int:
    """Return the axis of the channels: 1 for images, 2 for point clouds."""
    return 1 if inputs.ndim == 4 else 2


def positions(inputs: Tensor) -> tuple[int, ...]:
    """Return the shape of a map of the inputs: (B, H, W) for images, (B, N) for point clouds."""
    shape = list(inputs.shape)
    del shape[channel_axis(inputs)]
    return tuple(shape)


def per_channel(values: Tensor, inputs: Tensor) -> Tensor:
    """Shape values (C,) so that they apply to the channels of the inputs."""
    return values[:, None, None] if channel_axis(inputs) == 1 else values


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; the function that is returned waits for the copy and returns it.

    The host goes on meanwhile, and a CUDA device as well: the copy goes into page-locked memory.
    """
    if tensor.device.type != "cuda":
        copy = tensor.detach().cpu()
        return lambda: copy
    copy = tensor.detach().to("cpu", non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        copied.synchronize()
        return copy

    return wait

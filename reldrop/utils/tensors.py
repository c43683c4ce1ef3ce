"""How inputs are laid out: images (B, C, H, W), point clouds (B, N, C)."""

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

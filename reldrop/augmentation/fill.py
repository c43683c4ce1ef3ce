"""What to put where an input is occluded."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from reldrop.distributed.sharding import Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator
from reldrop.utils.tensors import channel_axis, per_channel
from reldrop.utils.types import checked

Normalization = Sequence[Sequence[float]]  # mean and std of each channel
FillImage = Literal["mean", "zero", "noise", "raw_mean"] | float | Sequence[float]
FillPoint = Literal["mean", "noise", "first"] | float | Sequence[float]


@checked
class Fill:
    """Puts a value, or noise, into the occluded part of images or point clouds.

    Args:
        kind: "mean": the mean of the data set (0 after normalization); "zero": black; "noise": standard normal values;
            "raw_mean": the channel mean in [0, 1], not normalized, put into the normalized image (a quirk of the release);
            "first": the first point of the cloud; or a constant, or one for each channel, in the units of the inputs.
        normalization: (mean, std) per channel in [0, 1], which "zero" and "raw_mean" need.

    Raises:
        ReldropError: for another kind, or without the normalization it needs.
    """

    def __init__(self, kind: FillImage | Literal["first"] = "mean", normalization: Normalization | None = None) -> None:
        self.kind = kind
        if not isinstance(kind, str):
            self.values = torch.tensor(kind, dtype=torch.float32).reshape(-1)
        elif kind in ("zero", "raw_mean"):
            if normalization is None:
                raise ReldropError(f"fill={kind} needs the normalization (mean, std) of the data set")
            mean, std = (torch.tensor(list(values)) for values in normalization)
            self.values = mean if kind == "raw_mean" else -mean / std
        else:
            self.values = torch.zeros(1)

    def __call__(
        self, inputs: Tensor, mask: Tensor, generator: torch.Generator | None = None, shard: Shard | None = None
    ) -> Tensor:
        """Return a copy of the inputs in which what is masked, bool (B, H, W) or (B, N), is replaced in all channels."""
        return torch.where(mask.unsqueeze(channel_axis(inputs)), self.for_batch(inputs, generator, shard), inputs)

    def for_batch(self, inputs: Tensor, generator: torch.Generator | None = None, shard: Shard | None = None) -> Tensor:
        """Return what replaces the inputs where they are occluded, in a shape that broadcasts to theirs.

        Args:
            inputs: (B, C, H, W) or (B, N, C).
            generator: on the CPU, for noise; None for the global one.
            shard: which rows of a batch the inputs are: noise is drawn for the whole batch. None if they are all.
        """
        channels = inputs.shape[channel_axis(inputs)]
        if len(self.values) not in (1, channels):
            raise ReldropError(f"fill has {len(self.values)} values for inputs with {channels} channels; give one each")
        if self.kind == "noise":
            rng = device_generator(generator, inputs.device)
            shard = shard or Shard.whole(len(inputs))
            return _like(inputs, shard.count).normal_(generator=rng)[shard.rows]
        if self.kind == "first":
            return inputs[:, :1]
        return per_channel(self.values.to(inputs.device, inputs.dtype, non_blocking=True), inputs)


def _like(inputs: Tensor, count: int) -> Tensor:
    """Return an empty batch of `count`, laid out in memory as `inputs` are, on which the order of draws depends."""
    if count == len(inputs):
        return torch.empty_like(inputs)
    channels_last = inputs.ndim == 4 and not inputs.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((count, *inputs.shape[1:]), dtype=inputs.dtype, device=inputs.device, memory_format=layout)

"""What to put where an input is occluded."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reldrop.errors import ReldropError

Normalisation = tuple[Sequence[float], Sequence[float]]


def device_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """Return a generator on `device`, seeded by a draw from a generator on the CPU, for large draws."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


class Fill:
    """Puts a value, or noise, into the occluded part of normalised inputs.

    Args:
        kind: "mean": the mean of the data set (0 after normalisation); "zero": black; "noise": standard normal values;
            "raw_mean": the channel mean in [0, 1] as it stands, put into the normalised image (a quirk of the release);
            or one constant per channel, in the units of the inputs.
        normalisation: (mean, std) per channel in [0, 1], which "zero" and "raw_mean" need.

    Raises:
        ReldropError: for another kind, or without the normalisation it needs.
    """

    def __init__(self, kind: str | Sequence[float] = "mean", normalisation: Normalisation | None = None) -> None:
        if not isinstance(kind, str):
            self.values = torch.tensor([float(value) for value in kind])
        elif kind in ("zero", "raw_mean"):
            if normalisation is None:
                raise ReldropError(f"fill {kind!r} needs the normalisation (mean, std) of the data set")
            mean, std = (torch.tensor(list(values)) for values in normalisation)
            self.values = mean if kind == "raw_mean" else -mean / std
        elif kind in ("mean", "noise"):
            self.values = torch.zeros(1)
        else:
            raise ReldropError(
                f"augmentation.fill is {kind!r}; it must be mean, zero, noise, raw_mean or a list with one number a channel"
            )
        self.noise = kind == "noise"

    def __call__(self, inputs: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return `inputs` (B, C, H, W) with the masked pixels (B, H, W) replaced, in all channels."""
        if len(self.values) not in (1, inputs.shape[1]):
            raise ReldropError(
                f"augmentation.fill has {len(self.values)} values for inputs with {inputs.shape[1]} channels; give one each"
            )
        if self.noise:
            draws = device_generator(generator, inputs.device)
            value = torch.empty_like(inputs).normal_(generator=draws)
        else:
            value = self.values.to(inputs.device, inputs.dtype, non_blocking=True)[:, None, None]
        return torch.where(mask[:, None], value, inputs)

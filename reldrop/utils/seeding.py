"""Random streams that depend on names and numbers only, never on global state, so that a run resumes exactly."""

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, stream: str, *position: int) -> int:
    """Return a 63-bit seed for one use of randomness.

    Args:
        seed: the seed of the run.
        stream: what the randomness is for, e.g. ``"order"`` or ``"occlusion"``.
        position: where in the run it is used, e.g. epoch and batch.
    """
    key = ":".join([str(seed), stream, *map(str, position)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1


def generator(seed: int, stream: str, *position: int) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed`.

    It lives on the CPU also for GPU runs: the draws are then the same on every device, and decisions made from them
    (which images to occlude) are known to the host without waiting for the device.
    """
    return torch.Generator().manual_seed(derive_seed(seed, stream, *position))


def device_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """Return a generator on `device`, seeded by a draw from a generator on the CPU, for large draws."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def uniform_of_items(items: Tensor, count: int, seed: int) -> Tensor:
    """Return `count` numbers for each item, which depend on the seed and the item alone, not on its batch or device.

    They come from splitmix64 (Steele, Lea, Flood 2014) at the counter of item and place.

    Args:
        items: int64 (B,), at least 0: numbers of the items.
        count: numbers for each.
        seed: of the use, see `derive_seed`.

    Returns:
        float64 (B, count), uniform in [0, 1).
    """
    counter = items[:, None] * count + torch.arange(1, count + 1, device=items.device)
    bits = counter * _signed(0x9E3779B97F4A7C15) + seed  # products wrap around, as they shall
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(bits ^ _shifted(bits, 31), 11).double() * 2.0**-53


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift to the right as if the numbers had no sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64)

"""Random streams that depend on names and numbers only, never on global state, so that a run resumes exactly."""

import hashlib

import torch


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

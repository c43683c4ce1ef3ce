"""Learning rates over training, as functions of the time in epochs; stepped after each batch."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, NonNegative, Positive, checked


@checked
def cosine(
    optimizer: Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    eta_min: NonNegative = 1e-6,
    warmup_epochs: NonNegative = 0,
) -> LambdaLR:
    """Half a cosine from the optimizer's learning rate down to `eta_min` (SGDR without restarts)."""
    lr = optimizer.param_groups[0]["lr"]
    if eta_min > lr:
        raise ReldropError(f"eta_min={eta_min:g} must be at most the learning rate, which is optimizer.lr={lr:g}")
    floor = eta_min / lr if lr else 0.0

    def factor(epoch: float) -> float:
        done = min(max(epoch - warmup_epochs, 0) / (epochs - warmup_epochs), 1)
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return _schedule(optimizer, factor, epochs, steps_per_epoch, warmup_epochs)


@checked
def step(
    optimizer: Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    step_size: Count = 20,
    gamma: Positive = 0.7,
    warmup_epochs: NonNegative = 0,
) -> LambdaLR:
    """Multiply the learning rate by `gamma` after each `step_size` epochs."""
    return _schedule(optimizer, lambda epoch: gamma ** (epoch // step_size), epochs, steps_per_epoch, warmup_epochs)


@checked
def exponential(
    optimizer: Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    gamma: Positive = 0.95,
    warmup_epochs: NonNegative = 0,
) -> LambdaLR:
    """Multiply the learning rate by `gamma` over each epoch, evenly."""
    return _schedule(optimizer, lambda epoch: gamma**epoch, epochs, steps_per_epoch, warmup_epochs)


@checked
def constant(optimizer: Optimizer, *, epochs: int, steps_per_epoch: int, warmup_epochs: NonNegative = 0) -> LambdaLR:
    """Keep the learning rate."""
    return _schedule(optimizer, lambda epoch: 1.0, epochs, steps_per_epoch, warmup_epochs)


def _schedule(
    optimizer: Optimizer, factor: Callable[[float], float], epochs: int, steps_per_epoch: int, warmup_epochs: float
) -> LambdaLR:
    """Let `factor` of the epoch apply after a linear warm-up over the first `warmup_epochs`."""
    if warmup_epochs >= epochs:
        raise ReldropError(f"warmup_epochs={warmup_epochs:g} must be below trainer.epochs={epochs}")
    warmup_steps = round(warmup_epochs * steps_per_epoch)

    def at(steps: int) -> float:
        warm = (steps + 1) / (warmup_steps + 1) if steps < warmup_steps else 1.0
        return warm * factor(steps / steps_per_epoch)

    return LambdaLR(optimizer, at)

"""Learning rates in closed form."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from reldrop.training import schedulers as schedules


def rates(schedule: Callable[..., LRScheduler], steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = schedule(optimizer, epochs=10, steps_per_epoch=4, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine() -> None:
    found = rates(schedules.cosine, 41, eta_min=0.001)
    expected = [0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * step / 40)) / 2 for step in range(41)]
    assert found == pytest.approx(expected)


def test_step_and_exponential_and_constant() -> None:
    assert rates(schedules.step, 24, step_size=2, gamma=0.5) == pytest.approx([0.1] * 8 + [0.05] * 8 + [0.025] * 8)
    assert rates(schedules.exponential, 9, gamma=0.5)[8] == pytest.approx(0.025)
    assert rates(schedules.constant, 5) == pytest.approx([0.1] * 5)


def test_warm_up_is_linear_and_then_leaves_the_schedule_alone() -> None:
    found = rates(schedules.constant, 12, warmup_epochs=2)
    assert found[:8] == pytest.approx([0.1 * (step + 1) / 9 for step in range(8)])
    assert found[8:] == pytest.approx([0.1] * 4)
    # Half a cosine over what is left of the epochs.
    assert rates(schedules.cosine, 41, warmup_epochs=2, eta_min=0.0)[8] == pytest.approx(0.1)
    assert rates(schedules.cosine, 41, warmup_epochs=2, eta_min=0.0)[40] == pytest.approx(0.0, abs=1e-9)

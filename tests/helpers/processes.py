"""Processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.paths import ROOT
from tests.helpers.runs import LITTLE, POINTS, metrics, weights

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


# 2 epochs of 6 batches of 16 and one of 7, of which the shares are 3 and 4; 2 processes have 3 and 2 batches of 53 tests.
SMALL = ["dataset.subset=103", "dataset.test_subset=53", "trainer.batch_size=16", "trainer.eval_batch_size=12"]


SHORT = [*SMALL, *LITTLE, "trainer.epochs=2", "machine.accelerator=cpu"]


VIT = [*SHORT, "backbone=vit_micro", "optimizer.lr=0.02"]


# A step size at which rounding does not grow: at the usual one, a change of 1e-7 in the first weights ends up above 1e-3.
RESNET = [*SHORT, "optimizer.lr=0.005"]


CLOUDS = [*POINTS, *RESNET, "dataset.subset=64", "optimizer=sgd"]


STILL = [*CLOUDS, "optimizer.lr=1e-9", "scheduler=constant", "dataset.jitter=0.01", "dataset.rotate=z"]


BROKEN = [*RESNET, "monitor.checkpoint_every_steps=3"]


EQUAL = {
    "none": [*VIT, "augmentation=none", "+monitor.metrics.brier={_target_: tests.helpers.metrics.Brier}"],
    "random_erasing": [*VIT, "augmentation=random_erasing", "augmentation.fill=noise"],
    "reldrop_block": [*VIT, "augmentation=reldrop_block", "trainer.clip_grad_norm=1.0"],
    "reldrop_pixel": [*VIT, "augmentation=reldrop_pixel"],
    "too_small_to_share": [*VIT, "dataset.subset=99"],  # a last batch of 3
    "batch_norm": [*RESNET, "dataset.validation=0.2", "monitor.occlusion_every_epochs=2"],
    "zennit": [*RESNET, "attribution=zennit", "trainer.max_steps=3"],
    "input_gradient": [*RESNET, "attribution=input_gradient", "trainer.max_steps=3"],
}


def launch(*arguments: Any, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT
    )


def assert_close(one: Path, other: Path) -> None:
    assert len(metrics(one)) == len(metrics(other))
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            # Rounding decides in which order pixels of nearly the same relevance are hidden.
            tolerance = 0.02 if key.startswith("occlusion/") else 1e-4
            assert b[key] is None if value is None else value == pytest.approx(b[key], rel=1e-3, abs=tolerance), key
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def trained(root: Path, name: str) -> Path:
    return next((root / name).glob("results/runs/*/*/seed0-*"))

"""Real data."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from reldrop.config import CONFIG_PATH, build
from reldrop.data import PointData
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT


def real(name: str, tmp_path: Path, *overrides: str) -> PointData:
    root = os.environ.get("RELDROP_DATA", str(ROOT / "data"))
    machine = (f"data_dir={root}", f"machine.cache_dir={tmp_path}", "machine.workers=0")
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", [f"dataset={name}", *machine, *overrides])
    try:
        return build(cfg, "dataset")
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"there is no {name} in {root}")


@pytest.mark.slow
def test_real_psb19(tmp_path: Path) -> None:
    clouds = real("psb19", tmp_path, "dataset.points=256")
    assert (len(clouds.train), len(clouds.test), clouds.num_classes) == (285, 95, 19)
    assert clouds.train.labels.bincount().tolist() == [15] * 19
    assert ((clouds.train.points[..., 3:].norm(dim=-1) - 1).abs() < 0.01).float().mean() > 0.99
    assert clouds.train.points.isfinite().all()


def test_real_modelnet_fragment(tmp_path: Path) -> None:
    clouds = real("modelnet40", tmp_path, "dataset.points=64", "dataset.folders=[modelnet40_fragment]")
    assert (clouds.num_classes, len(clouds.train) + len(clouds.test)) == (40, 72)
    inputs = next(clouds.train_batches(0, batch_size=8, seed=0)).inputs
    assert inputs.shape == (8, 64, 6)
    assert torch.allclose(inputs[..., :3].norm(dim=-1).amax(1), torch.ones(8))

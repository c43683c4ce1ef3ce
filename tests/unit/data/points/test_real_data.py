"""Real data."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from reldrop import data
from reldrop.data import PointData
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT

CONFIGS = ROOT / "conf" / "dataset"


def real(name: str, tmp_path: Path, **settings: Any) -> PointData:
    root = os.environ.get("RELDROP_DATA", str(CONFIGS.parents[1] / "data"))
    config = OmegaConf.merge(OmegaConf.load(CONFIGS / f"{name}.yaml"), {"data_dir": root, **settings})
    config.update(cache_dir=str(tmp_path), workers=0)
    config = {key: value for key, value in OmegaConf.to_container(config, resolve=True).items() if key != "data_dir"}
    function = getattr(data, config.pop("_target_").removeprefix("reldrop.data."))
    try:
        return function(**config)
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"there is no {name} in {root}")


@pytest.mark.slow
def test_real_psb19(tmp_path: Path) -> None:
    clouds = real("psb19", tmp_path, points=256)
    assert (len(clouds.train), len(clouds.test), clouds.num_classes) == (285, 95, 19)
    assert clouds.train.labels.bincount().tolist() == [15] * 19
    assert ((clouds.train.points[..., 3:].norm(dim=-1) - 1).abs() < 0.01).float().mean() > 0.99
    assert clouds.train.points.isfinite().all()


def test_real_modelnet_fragment(tmp_path: Path) -> None:
    clouds = real("modelnet40", tmp_path, points=64, folders=["modelnet40_fragment"])
    assert (clouds.num_classes, len(clouds.train) + len(clouds.test)) == (40, 72)
    inputs = next(clouds.train_batches(0, batch_size=8, seed=0)).inputs
    assert inputs.shape == (8, 64, 6)
    assert torch.allclose(inputs[..., :3].norm(dim=-1).amax(1), torch.ones(8))

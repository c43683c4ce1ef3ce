"""Real data."""

import os
from pathlib import Path

import pytest

from reldrop.train import train
from tests.helpers.runs import config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "experiment"), [("psb19_normal_resampled", "psb_pointnet"), ("modelnet40_fragment", "")]
)
def test_real_clouds(tmp_path: Path, name: str, experiment: str) -> None:
    data = Path(os.environ.get("RELDROP_DATA", "data"))
    if not (data / name).is_dir():
        pytest.skip(f"needs {name} in RELDROP_DATA")
    options = [f"+experiment={experiment or 'modelnet_pointnet2'}", "dataset.points=128", "trainer.batch_size=16"]
    cfg = config(tmp_path, *options, f"data_dir={data}", f"machine.cache_dir={tmp_path / 'cache'}")
    cfg.trainer.epochs, cfg.scheduler = 4, config(tmp_path, "scheduler=cosine").scheduler
    summary = train(cfg)
    assert summary["train/loss"] < 3.6
    assert not experiment or summary["test/top1"] > 0.15  # chance is 0.05


@pytest.mark.real_data("cifar10_jpeg")
def test_real_cifar_images(tmp_path: Path) -> None:
    data = os.environ.get("RELDROP_DATA", "data")
    cfg = config(
        tmp_path, "+experiment=cifar_resnet", f"data_dir={data}", "backbone=resnet_tiny", "dataset.subset=2000"
    )
    cfg.dataset.test_subset, cfg.trainer.epochs = 500, 4
    assert train(cfg)["test/top1"] > 0.2

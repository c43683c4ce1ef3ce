"""Configurations and real data."""

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from reldrop import data
from reldrop.utils.errors import ReldropError
from tests.helpers.paths import ROOT

CONFIGS = ROOT / "conf" / "dataset"


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_give_what_their_function_takes(config: Path) -> None:
    settings = OmegaConf.load(config)
    function = getattr(data, settings.pop("_target_").removeprefix("reldrop.data."))
    assert set(settings) == set(inspect.signature(function).parameters)


def real_configuration(name: str, **settings: Any) -> dict[str, Any]:
    config = OmegaConf.merge(OmegaConf.load(CONFIGS / f"{name}.yaml"), {"data_dir": os.environ.get("RELDROP_DATA", "")})
    config.update(download=False, **settings) if "download" in config else config.update(settings)
    return {key: value for key, value in OmegaConf.to_container(config, resolve=True).items() if key != "data_dir"}


@pytest.mark.parametrize(("name", "classes", "size"), [("cifar10", 10, 32), ("tiny_imagenet", None, 64)])
def test_real_data(name: str, classes: int | None, size: int) -> None:
    settings = real_configuration(name, subset=500, test_subset=100, validation=0.01)
    function = getattr(data, settings.pop("_target_").removeprefix("reldrop.data."))
    try:
        images = function(**settings)
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"the environment variable RELDROP_DATA leads to no {name}")
    assert (len(images.train), len(images.test), images.size) == (500, 100, size)
    assert images.num_classes == (classes or images.num_classes)
    inputs, targets, *_ = next(images.train_batches(0, batch_size=500, seed=0))
    assert inputs.shape == (500, 3, size, size)
    assert targets.bincount().tolist() == [500 // images.num_classes] * images.num_classes
    assert inputs.mean().abs() < 0.5
    assert 0.7 < inputs.std() < 1.5

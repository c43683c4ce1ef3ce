"""Configurations and real data."""

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from reldrop.config import CONFIG_PATH
from reldrop.utils.errors import ReldropError
from tests.helpers.images import machine

CONFIGS = Path(CONFIG_PATH) / "dataset"


def composed(name: str) -> dict[str, Any]:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return OmegaConf.to_container(compose("train", [f"dataset={name}"]).dataset)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("[!_]*.yaml")))
def test_configurations_give_what_their_function_takes(name: str) -> None:
    settings = composed(name)
    function = get_object(settings.pop("_target_"))
    assert set(settings) == set(inspect.signature(function).parameters) - {"machine"}


@pytest.mark.parametrize(("name", "classes", "size"), [("cifar10", 10, 32), ("tiny_imagenet", None, 64)])
def test_real_data(name: str, classes: int | None, size: int) -> None:
    settings = composed(name) | {"subset": 500, "test_subset": 100, "validation": 0.01}
    function = get_object(settings.pop("_target_"))
    try:
        images = function(**settings, machine=machine(Path(os.environ.get("RELDROP_DATA", ""))))
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

"""The machine group, and how parts get it."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reldrop.config import build, machine
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine, cores


def reader(machine: Machine = Machine()) -> Machine:
    """Return the machine that it was given, as a reader of data would use it."""
    return machine


def config(**settings: object) -> OmegaConf:
    target = {"_target_": f"{__name__}.reader"}
    return OmegaConf.create({"data_dir": "/data", "machine": {"name": "cluster", **settings}, "dataset": target})


def test_a_part_that_takes_a_machine_gets_that_of_the_configuration():
    built = build(config(workers=3, memory_gb=2.5), "dataset")
    assert built == Machine(data_dir="/data", workers=3, memory_gb=2.5)
    assert built.cache == Path("/data/cache")
    assert build(config(cache_dir="/fast"), "dataset").cache == Path("/fast")


def test_another_machine_can_be_given():
    assert build(config(), "dataset", machine=Machine(data_dir="/elsewhere")).root == Path("/elsewhere")


def test_without_the_group_it_is_the_default():
    cfg = OmegaConf.create({"data_dir": "/data", "dataset": {"_target_": f"{__name__}.reader"}})
    assert machine(cfg) == Machine("/data")


def test_workers():
    assert Machine().processes == cores() >= 1
    assert Machine(workers=0).processes == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("workers", -1), ("workers", 1.5), ("accelerator", "tpu"), ("download", "no"), ("memory_gb", "8")],
)
def test_wrong_settings_are_refused_by_name(key, value):
    with pytest.raises(ReldropError, match=f"^machine.{key}="):
        machine(config(**{key: value}))

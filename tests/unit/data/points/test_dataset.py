"""Batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop import data
from reldrop.data import PointData
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator
from tests.helpers.clouds import memory_data, modelnet


def test_every_cloud_once_an_epoch_with_all_its_points_in_orders_of_their_own() -> None:
    clouds = memory_data(12)
    epochs = [list(clouds.train_batches(epoch, batch_size=5, seed=0)) for epoch in (0, 0, 1)]
    for batch, again, later in zip(*epochs, strict=True):
        inputs, targets, same, other = batch.inputs, batch.targets, again.inputs, later.inputs
        assert inputs.dtype == torch.float32
        assert torch.equal(inputs[:, 0, 0].long() % 2, targets)
        assert torch.equal(inputs, same)
        assert not torch.equal(inputs, other)
        assert torch.equal(inputs[..., 1].sort(1).values, torch.arange(8.0).expand(len(inputs), 8))
    for epoch in epochs:
        assert sorted(torch.cat([batch.inputs[:, 0, 0] for batch in epoch]).tolist()) == list(range(12))
    firsts = torch.cat(
        [batch.inputs[:, 0, 1] for epoch in range(40) for batch in clouds.train_batches(epoch, batch_size=5, seed=0)]
    )
    assert firsts.long().bincount(minlength=8).min() > 30  # of 60 expected


@pytest.mark.parametrize("start", [1, 2, 3])
def test_start_skips_batches_and_changes_no_other(start: int) -> None:
    clouds = memory_data(14)
    whole = list(clouds.train_batches(3, batch_size=5, seed=7))
    rest = list(clouds.train_batches(3, batch_size=5, seed=7, start=start))
    assert len(rest) == len(whole) - start
    for batch, other in zip(whole[start:], rest, strict=True):
        assert torch.equal(batch.inputs, other.inputs)
        assert torch.equal(batch.targets, other.targets)
        assert torch.equal(batch.items, other.items)


def test_a_last_batch_of_one_cloud_is_dropped() -> None:
    assert [len(batch.targets) for batch in memory_data(11).train_batches(0, batch_size=5, seed=0)] == [5, 5]
    assert memory_data(11).steps_per_epoch(5) == 2
    assert memory_data(12).steps_per_epoch(5) == 3


def test_evaluation_is_in_order_of_clouds_and_points() -> None:
    clouds = memory_data(20)
    batches = list(clouds.eval_batches("train", batch_size=8))
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), clouds.train.points)
    for batch in clouds.eval_batches("train", batch_size=8, limit=6):
        assert torch.equal(batch.inputs, clouds.train.points[batch.items])
        assert torch.equal(batch.targets, clouds.train.labels[batch.items])
    limited = [
        [x for batch in clouds.eval_batches("train", batch_size=4, limit=6) for x in batch.inputs[:, 0, 0].tolist()]
    ] * 2
    assert limited[0] == limited[1] == sorted(set(limited[0]))
    assert len(limited[0]) == 6


def test_global_random_state_is_left_alone(mini: Path) -> None:
    before = torch.get_rng_state()
    clouds = modelnet(mini, scale=[0.8, 1.25], jitter=0.1)
    for batch in clouds.train_batches(0, batch_size=4, seed=0):
        clouds.transform(batch.inputs, generator(0, "test"))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_networks_and_augmentations_are_told() -> None:
    clouds = memory_data()
    assert (clouds.kind, clouds.model_kwargs) == ("points", {"num_classes": 2, "channels": 6})
    assert clouds.augmentation_kwargs == {"num_classes": 2}
    assert torch.equal(clouds.dummy_input(), clouds.train.points[:1])
    digits = data.digits(mean=[0.3], std=[0.4])
    assert (digits.kind, digits.model_kwargs) == ("images", {"num_classes": 10, "channels": 1, "size": 8})
    assert digits.augmentation_kwargs == {"num_classes": len(digits.classes), "normalization": ((0.3,), (0.4,))}
    assert digits.dummy_input().shape == (1, 1, 8, 8)
    image = digits.dummy_input()
    assert digits.transform(image, generator(0, "test")) is image


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda clouds: next(clouds.eval_batches("validation", batch_size=2)),
            "hold some clouds out: dataset.validation",
        ),
        (lambda clouds: next(clouds.eval_batches("test", batch_size=2, limit=0)), "cannot evaluate 0 clouds"),
        (lambda clouds: memory_data(1), "has 1 training cloud; training needs at least 2"),
    ],
)
def test_mistakes_in_use_are_explained(call: Callable[[PointData], Any], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        call(memory_data())

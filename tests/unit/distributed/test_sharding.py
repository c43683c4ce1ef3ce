"""Shares, without processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reldrop.augmentation import Fill, RandomErasing, RandomPointDropout, RelDropBlock, RelDropPixel, RelDropPoint
from reldrop.data.points.transforms import PointTransform
from reldrop.distributed.sharding import ALL, BatchSharder, Shard
from reldrop.utils.seeding import generator
from tests.helpers.clouds import memory_data as memory_clouds
from tests.helpers.imagenet import imagenet
from tests.helpers.images import memory_data


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_are_all_of_a_batch_once(processes: int) -> None:
    shares = [BatchSharder(rank, processes) for rank in range(processes)]
    for count in range(1, 24):
        parts = [sharder.shard(count) for sharder in shares]
        assert sum(shard.items for shard in parts) == count
        assert all(shard.stop - shard.start >= min(2, count) for shard in parts)
        if count >= 2 * processes:
            assert [row for shard in parts for row in range(count)[shard.rows]] == list(range(count))
        else:
            assert [shard.items for shard in parts] == [count] + [0] * (processes - 1)
        order = torch.arange(count)
        evaluated = torch.cat([sharder.batches(order, 3) for sharder in shares])
        assert torch.equal(evaluated.sort().values, order)


def assert_shares_of(whole: Any, shared: list[Any]) -> None:
    for batch, *parts in zip(whole, *shared, strict=True):
        if len(batch.targets) < 2 * len(parts):
            parts = parts[:1]  # too small to be shared
        for key in ("inputs", "targets", "items"):
            assert torch.equal(getattr(batch, key), torch.cat([getattr(part, key) for part in parts]))


def test_shares_of_images_and_clouds() -> None:
    for data in (memory_data(23, crop_padding=2, flip=True), memory_clouds(23)):
        batches = [
            list(data.train_batches(1, batch_size=9, seed=3, start=1, sharder=sharder))
            for sharder in (ALL, *(BatchSharder(rank, 2) for rank in range(2)))
        ]
        assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize("on_decode_error", ["error", "skip"])
def test_shares_of_random_resized_crops(pictures: Path, on_decode_error: str) -> None:
    if on_decode_error == "skip":
        broken = sorted(pictures.rglob("*.*"))[0]
        broken.write_bytes(broken.read_bytes()[:100])
    data = imagenet(pictures, on_decode_error=on_decode_error)
    batches = [
        list(data.train_batches(1, batch_size=4, seed=3, sharder=sharder))
        for sharder in (ALL, *(BatchSharder(rank, 2) for rank in range(2)))
    ]
    assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize(
    "occlusion",
    [
        RandomErasing(fill="noise"),
        RelDropBlock(k=3),
        RelDropBlock(cell=4),
        RelDropPixel(decide_per="batch", probability=0.7),
        RandomPointDropout(),
        RelDropPoint(probability=0.4),
    ],
)
def test_shares_of_occlusions(occlusion: Any) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(*((11, 50, 6) if occlusion.kind == "points" else (11, 3, 16, 16)), generator=draws)
    asked: list[int] = []

    def occluded(sharder: BatchSharder | None) -> Tensor:
        shard = sharder and sharder.shard(len(inputs))
        own = inputs[shard.rows] if shard else inputs

        def relevance(rows: Tensor) -> Tensor:
            asked.append(len(rows))
            return own[rows].sum(1 if own.ndim == 4 else 2)

        return occlusion(own, torch.zeros(len(own)), relevance, torch.Generator().manual_seed(1), shard)[0]

    whole = occluded(ALL)
    assert torch.equal(torch.cat([occluded(BatchSharder(rank, 3)) for rank in range(3)]), whole)
    assert sum(asked[1:]) == sum(asked[:1])
    assert torch.equal(occluded(None), whole)


def test_shares_of_noise_and_perturbations() -> None:
    clouds = torch.randn(9, 20, 6)
    perturbation = PointTransform((0.5, 2), 0.3, "any", 0.02)
    images = torch.randn(9, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    mask = torch.ones(9, 8, 8, dtype=torch.bool)
    parts = [Shard.whole(9), *(BatchSharder(rank, 2).shard(9) for rank in range(2))]
    moved = [perturbation(clouds[shard.rows], generator(0, "test"), shard) for shard in parts]
    noise = [Fill("noise")(images[shard.rows], mask[shard.rows], generator(0, "test"), shard) for shard in parts]
    for whole, *shares in (moved, noise):
        assert torch.equal(torch.cat(shares), whole)

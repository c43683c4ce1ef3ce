"""Shares, without processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reldrop.augmentation import Fill, RandomErasing, RandomPointDropout, RelDropBlock, RelDropPixel, RelDropPoint
from reldrop.data.points.transforms import Perturbation
from reldrop.distributed.sharding import ALL, Part, Share
from reldrop.utils.seeding import generator
from tests.helpers.clouds import memory_data as memory_clouds
from tests.helpers.imagenet import imagenet
from tests.helpers.images import memory_data


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_are_all_of_a_batch_once(processes: int) -> None:
    shares = [Share(rank, processes) for rank in range(processes)]
    for count in range(1, 24):
        parts = [share.of(count) for share in shares]
        assert sum(part.items for part in parts) == count
        assert all(part.stop - part.start >= min(2, count) for part in parts)
        if count >= 2 * processes:
            assert [row for part in parts for row in range(count)[part.rows]] == list(range(count))
        else:
            assert [part.items for part in parts] == [count] + [0] * (processes - 1)
        order = torch.arange(count)
        evaluated = torch.cat([share.batches(order, 3) for share in shares])
        assert torch.equal(evaluated.sort().values, order)


def assert_shares_of(whole: Any, shared: list[Any]) -> None:
    for batch, *parts in zip(whole, *shared, strict=True):
        if len(batch[1]) < 2 * len(parts):
            parts = parts[:1]  # too small to be shared
        together = [torch.cat(each) for each in zip(*parts, strict=True)]
        assert torch.equal(batch[0], together[0])
        assert torch.equal(batch[1], together[1])


def test_shares_of_images_and_clouds() -> None:
    for data in (memory_data(23, crop_padding=2, flip=True), memory_clouds(23)):
        batches = [
            list(data.train_batches(1, batch_size=9, seed=3, start=1, share=share))
            for share in (ALL, *(Share(rank, 2) for rank in range(2)))
        ]
        assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize("corrupt", ["error", "skip"])
def test_shares_of_random_resized_crops(pictures: Path, corrupt: str) -> None:
    if corrupt == "skip":
        broken = sorted(pictures.rglob("*.*"))[0]
        broken.write_bytes(broken.read_bytes()[:100])
    data = imagenet(pictures, corrupt=corrupt)
    batches = [
        list(data.train_batches(1, batch_size=4, seed=3, share=share))
        for share in (ALL, *(Share(rank, 2) for rank in range(2)))
    ]
    assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize(
    "occlusion",
    [
        RandomErasing(fill="noise"),
        RelDropBlock(k=3),
        RelDropBlock(cell=4),
        RelDropPixel(coin="batch", probability=0.7),
        RandomPointDropout(),
        RelDropPoint(probability=0.4),
    ],
)
def test_shares_of_occlusions(occlusion: Any) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(*((11, 50, 6) if occlusion.inputs == "points" else (11, 3, 16, 16)), generator=draws)
    asked: list[int] = []

    def relevance(samples: Tensor, classes: Tensor) -> Tensor:
        asked.append(len(samples))
        return samples.sum(1) if samples.ndim == 4 else samples.sum(2)

    def occluded(share: Share) -> Tensor:
        part = share.of(len(inputs))
        rows = inputs[part.rows]
        return occlusion(rows, torch.zeros(len(rows)), relevance, torch.Generator().manual_seed(1), part)

    whole = occluded(ALL)
    assert torch.equal(torch.cat([occluded(Share(rank, 3)) for rank in range(3)]), whole)
    assert sum(asked[1:]) == sum(asked[:1])
    assert torch.equal(occlusion(inputs, torch.zeros(11), relevance, torch.Generator().manual_seed(1)), whole)


def test_shares_of_noise_and_perturbations() -> None:
    clouds = torch.randn(9, 20, 6)
    perturbation = Perturbation((0.5, 2), 0.3, "any", 0.02)
    images = torch.randn(9, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    mask = torch.ones(9, 8, 8, dtype=torch.bool)
    parts = [Part.whole(9), *(Share(rank, 2).of(9) for rank in range(2))]
    moved = [perturbation(clouds[part.rows], generator(0, "test"), part) for part in parts]
    noise = [Fill("noise")(images[part.rows], mask[part.rows], generator(0, "test"), part) for part in parts]
    for whole, *shares in (moved, noise):
        assert torch.equal(torch.cat(shares), whole)

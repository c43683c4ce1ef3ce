"""Batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reldrop import data
from reldrop.data import ImageData, ImageSplit
from reldrop.data.images.crops import resize_center_crop
from reldrop.data.images.decoding import decode
from reldrop.distributed.sharding import BatchSharder
from reldrop.utils.errors import ReldropError
from tests.helpers.images import DIGITS, RGB, assert_same_batches, folder_data, make_folders, memory_data


def first_pixels(batches: Any) -> list[int]:
    return [round(value) for batch in batches for value in batch.inputs[:, 0, 0, 0].tolist()]


def test_every_image_once_an_epoch_in_an_order_of_its_own() -> None:
    images = memory_data(12)
    epochs = [first_pixels(images.train_batches(epoch, batch_size=5, seed=0)) for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    assert epochs[0] != first_pixels(images.train_batches(0, batch_size=5, seed=1))
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(11, 5, [5, 5]), (12, 5, [5, 5, 2]), (3, 8, [3]), (2, 1, [1, 1])]
)
def test_a_last_batch_of_one_image_is_dropped(count: int, batch_size: int, sizes: list[int]) -> None:
    images = memory_data(count)
    assert [len(batch.targets) for batch in images.train_batches(0, batch_size=batch_size, seed=0)] == sizes
    assert images.steps_per_epoch(batch_size) == len(sizes)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_start_skips_batches_and_changes_no_other(start: int) -> None:
    images = memory_data(14, crop_padding=2, flip=True)
    whole = list(images.train_batches(3, batch_size=5, seed=7))
    rest = list(images.train_batches(3, batch_size=5, seed=7, start=start))
    assert_same_batches(whole[start:], rest)


def test_targets_belong_to_their_inputs() -> None:
    for inputs, targets, *_ in memory_data(10).train_batches(0, batch_size=4, seed=0):
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert torch.equal(inputs[:, 0, 0, 0].round().long() % 2, targets)


def test_padding_is_black_before_normalization() -> None:
    images = memory_data(200, crop_padding=1)
    images.mean, images.std = (0.5,), (0.25,)
    images.to("cpu")
    inputs, _, *_ = next(images.train_batches(0, batch_size=200, seed=0))
    corner = inputs[inputs[:, 0, 0, 0] != inputs[:, 0, 1, 1], 0, 0, 0]
    assert len(corner) > 0
    assert (corner == -2).all()


def test_evaluation_is_in_order_and_a_limit_chooses_the_same_images_always() -> None:
    images = memory_data(20, crop_padding=2, flip=True)
    assert first_pixels(images.eval_batches("train", batch_size=8)) == list(range(20))
    assert first_pixels(images.eval_batches("test", batch_size=3)) == list(range(4))
    limited = [first_pixels(images.eval_batches("train", batch_size=4, limit=6)) for _ in range(2)]
    assert limited[0] == limited[1] == sorted(set(limited[0]))
    assert limited[0] != list(range(6))
    assert len(limited[0]) == 6
    assert len(first_pixels(images.eval_batches("test", batch_size=4, limit=100))) == 4


def test_evaluation_says_which_items_it_reads() -> None:
    images = memory_data(20)
    batches = list(images.eval_batches("train", batch_size=4, limit=6))
    assert [batch.items.dtype for batch in batches] == [torch.int64] * 2
    for inputs, targets, indices, *_ in batches:
        assert torch.equal(inputs[:, 0, 0, 0].round().long(), indices)
        assert torch.equal(images.train.labels[indices], targets)
    assert images.train.labels[torch.cat([batch.items for batch in batches])].bincount().tolist() == [3, 3]
    assert_same_batches(list(images.eval_batches("train", batch_size=4, limit=6)), batches)
    shards = [images.eval_batches("train", batch_size=3, sharder=BatchSharder(rank, 2)) for rank in range(2)]
    assert sorted(index for shard in shards for batch in shard for index in batch.items.tolist()) == list(range(20))


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_images_keep_the_paths_of_their_files(tmp_path: Path, memory_gb: float) -> None:
    base = make_folders(tmp_path / "some")
    images = folder_data(base, memory_gb=memory_gb, validation=0.2, subset=6, test_subset=3)
    for split, count in ((images.train, 6), (images.validation, 3), (images.test, 3)):
        assert len(split.paths) == len(split.labels) == count
        assert [int(Path(path).parent.name[-1]) for path in split.paths] == split.labels.tolist()
    for inputs, _, indices, *_ in images.eval_batches("test", batch_size=2):
        pixels = [torch.from_numpy(decode(images.test.paths[index], 8)) for index in indices.tolist()]
        assert torch.equal(inputs, images.normalize(torch.stack(pixels)))
    assert images.test.reading.frame is resize_center_crop
    assert data.digits(**DIGITS).test.paths is None


def test_normalize_and_back() -> None:
    images = folder_like(torch.randint(256, (6, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8))
    inputs = images.normalize(images.train.images)
    mean, std = (torch.tensor(RGB[key])[None, :, None, None] for key in ("mean", "std"))
    assert torch.equal(inputs, (images.train.images.float() / 255 - mean) / std)
    assert torch.allclose(images.denormalize(inputs), images.train.images / 255, atol=1e-6)
    assert images.denormalize(inputs + 100).max() == 1


def folder_like(images: Tensor) -> ImageData:
    split = ImageSplit(images, torch.zeros(len(images), dtype=torch.int64))
    return ImageData("random", ("only",), images.shape[-1], RGB["mean"], RGB["std"], "memory", split, split)


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    images = folder_data(make_folders(tmp_path / "some"), memory_gb=0)
    before = torch.get_rng_state()
    list(images.train_batches(0, batch_size=4, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda images: next(images.eval_batches("validation", batch_size=2)), "no validation split.*validation=0.1"),
        (lambda images: next(images.eval_batches("tests", batch_size=2)), "no split 'tests'; choose train, validation"),
        (lambda images: next(images.eval_batches("test", batch_size=2, limit=0)), "cannot evaluate 0 images"),
        (lambda images: memory_data(1), "has 1 training image; training needs at least 2"),
        (lambda images: memory_data(crop_padding=-1), "crop_padding=-1 must be at least 0"),
        (lambda images: data.digits(mean=[0.3], std=[0.0]), r"std=\[0.0\] must be above 0"),
    ],
)
def test_mistakes_in_use_are_explained(call: Any, message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        call(memory_data())

"""Files that cannot be decoded."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from reldrop.data.images.crops import CenterCrop
from reldrop.data.images.decoding import decode
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, generator
from tests.helpers.imagenet import CROP, WNIDS, greys, imagenet, plain, shade
from tests.helpers.images import assert_same_batches


def damage(base: Path, *names: str) -> list[Path]:
    paths = [base / name for name in names]
    for path in paths:
        path.write_bytes(path.read_bytes()[:40])
    return paths


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_stops_the_run_and_is_named(base: Path, workers: int) -> None:
    (damaged,) = damage(base, "train/n01443537/n01443537_1.JPEG")
    images = imagenet(base, workers=workers)
    with pytest.raises(ReldropError, match=f"^cannot decode image {damaged}: .*; replace or remove it$"):
        list(images.train_batches(0, batch_size=4, seed=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_another_image_of_the_batch_takes_the_place_of_a_skipped_one(
    base: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = damage(base, "train/n01443537/n01443537_1.JPEG", "train/n01443537/n01443537_3.JPEG")
    images = imagenet(base, on_decode_error="skip", workers=workers)
    for epoch in range(3):
        caplog.clear()
        batches = list(images.train_batches(epoch, batch_size=4, seed=0))
        assert [len(batch.targets) for batch in batches] == [4, 4, 4]
        for found, batch in zip(greys(batches), batches, strict=True):
            assert found == [shade(int(target)) for target in batch.targets]
        said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert said[-1] == "2 of 12 images could not be decoded and were replaced by others of their batches"
        named = sorted(message.split(": ")[1].split()[-1] for message in said[:-1])
        assert named == (sorted(map(str, damaged)) if epoch == 0 else [])
        for start in (1, 2):
            assert_same_batches(batches[start:], list(images.train_batches(epoch, batch_size=4, seed=0, start=start)))


def test_the_next_readable_image_is_taken_in_a_crop_of_its_own(pictures: Path) -> None:
    intact = list(imagenet(pictures, flip=False).train_batches(0, batch_size=7, seed=0))
    images = imagenet(pictures, flip=False, on_decode_error="skip")
    order = torch.randperm(14, generator=generator(0, "order", 0)).tolist()
    for place in (2, 3):
        Path(images.train.images.paths[order[place]]).write_bytes(b"")
    inputs, targets, *_ = next(images.train_batches(0, batch_size=7, seed=0))
    seed = derive_seed(0, "resized crop", 0)
    for place in range(7):
        if place not in (2, 3):
            assert torch.equal(inputs[place], intact[0][0][place])
        else:
            crop = decode(images.train.images.paths[order[4]], 16, partial(CROP, seed=seed + order[place]))
            assert np.array_equal(inputs[place].round().numpy(), crop)
            assert targets[place] == targets[4]


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_evaluation_goes_without_skipped_images(base: Path, memory_gb: float, caplog: pytest.LogCaptureFixture) -> None:
    (damaged,) = damage(base, "val/n01440764/n01440764_1.JPEG")
    images = imagenet(base, on_decode_error="skip", memory_gb=memory_gb)
    for batch_size, sizes in ((4, (3, 2)), (1, (1, 1, 1, 1, 1))):
        batches = list(images.eval_batches("test", batch_size=batch_size))
        assert sum(len(batch.targets) for batch in batches) == 5
        assert memory_gb or tuple(len(batch.targets) for batch in batches) == sizes
        for found, batch in zip(greys(batches), batches, strict=True):
            assert found == [shade(int(target)) for target in batch.targets]
        assert_same_batches(batches, list(images.eval_batches("test", batch_size=batch_size)))
        for _, targets, indices, *_ in batches:
            paths = [images.test.paths[index] for index in indices.tolist()]
            assert str(damaged) not in paths
            assert [Path(path).parent.name for path in paths] == [WNIDS[target] for target in targets]
    assert images.test.reading.frame == CenterCrop(20, "bilinear")
    assert sum(str(damaged) in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_a_split_of_which_nothing_can_be_decoded_is_refused(base: Path, memory_gb: float) -> None:
    for path in (base / "val").rglob("*.JPEG"):
        path.write_bytes(b"")
    with pytest.raises(ReldropError, match=r"none of .*6 images.* can be decoded"):
        list(imagenet(base, on_decode_error="skip", memory_gb=memory_gb).eval_batches("test", batch_size=4))
    for path in (base / "train").rglob("*.JPEG"):
        path.write_bytes(b"")
    plain(0).save(base / "val" / WNIDS[0] / "good.png")
    with pytest.raises(ReldropError, match="no image of a batch of 4 can be decoded"):
        list(imagenet(base, on_decode_error="skip").train_batches(0, batch_size=4, seed=0))

"""Batches of random crops."""

import gc
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reldrop.data.images.crops import CenterCrop
from reldrop.data.images.decoding import decode, on_device
from reldrop.utils.seeding import derive_seed
from tests.helpers.imagenet import CROP, imagenet
from tests.helpers.images import assert_same_batches


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_epochs_are_the_same_from_any_batch_and_with_any_number_of_workers(pictures: Path, workers: int) -> None:
    expected = list(imagenet(pictures).train_batches(3, batch_size=4, seed=7))
    assert [len(batch.targets) for batch in expected] == [4, 4, 4, 2]
    images = imagenet(pictures, workers=workers)
    for start in (0, 1, 3):
        assert_same_batches(expected[start:], list(images.train_batches(3, batch_size=4, seed=7, start=start)))
    given_up = images.train_batches(3, batch_size=4, seed=7)
    begun = [next(given_up)]
    assert len(list(images.eval_batches("train", batch_size=5))) == 3
    given_up.close()
    assert_same_batches(expected[:1], begun)
    assert_same_batches(expected, list(images.train_batches(3, batch_size=4, seed=7)))
    for epoch, seed in ((4, 7), (3, 8)):
        other = next(images.train_batches(epoch, batch_size=4, seed=seed))
        assert not torch.equal(other.inputs, expected[0].inputs)


def test_batches_are_the_crops_that_were_drawn_some_of_them_flipped(pictures: Path) -> None:
    images = imagenet(pictures)
    seed = derive_seed(5, "resized crop", 2)
    flips = []
    for batch in images.train_batches(2, batch_size=4, seed=5):
        for pixels, item, flipped in zip(batch.inputs, batch.items.tolist(), batch.crops.flipped, strict=True):
            crop = decode(images.train.paths[item], 16, partial(CROP, seed=seed + item))
            expected = torch.from_numpy(crop).float()
            assert torch.equal(pixels.round(), expected.flip(-1) if flipped else expected)
            flips.append(bool(flipped))
        assert torch.equal(images.train.labels[batch.items], batch.targets)
    assert 0 < sum(flips) < len(flips) == 14


def test_evaluation_sees_center_crops_in_memory_or_not(pictures: Path) -> None:
    kept, streamed = imagenet(pictures), imagenet(pictures, memory_gb=0)
    assert isinstance(kept.test.images, Tensor)
    assert not isinstance(kept.train.images, Tensor)
    assert not isinstance(streamed.test.images, Tensor)
    for split in ("train", "test"):
        expected = list(streamed.eval_batches(split, batch_size=4))
        assert_same_batches(expected, list(kept.eval_batches(split, batch_size=4)))
        paths = sorted((pictures / ("train" if split == "train" else "val")).rglob("*.JPEG"))
        crops = [decode(str(path), 16, CenterCrop(20, "bilinear")) for path in paths]
        assert np.array_equal(torch.cat([batch.inputs for batch in expected]).round().numpy(), np.stack(crops))


def test_training_on_center_crops_stays_in_memory_and_equals_streaming(pictures: Path) -> None:
    kept, streamed = imagenet(pictures, crop_scale=None), imagenet(pictures, crop_scale=None, memory_gb=0)
    assert isinstance(kept.train.images, Tensor)
    assert_same_batches(*(list(each.train_batches(0, batch_size=4, seed=0)) for each in (kept, streamed)))


def test_workers_of_a_batch_that_nobody_takes_end_at_once(pictures: Path) -> None:
    images = imagenet(pictures, workers=2)
    batches = images.train_batches(0, batch_size=2, seed=0)
    next(batches)
    started = time.perf_counter()
    batches.close()
    del images, batches
    gc.collect()
    assert time.perf_counter() - started < 4


def test_an_error_amid_an_epoch_ends_the_process_and_its_workers(pictures: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.helpers.imagenet import imagenet\n"
        "batches = imagenet(Path(sys.argv[1]), workers=2).train_batches(0, batch_size=2, seed=0)\n"
        "next(batches); raise SystemExit('an error')"
    )
    done = subprocess.run([sys.executable, "-c", program, pictures], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (1, "an error\n")


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_cuda_device_copies_a_batch_while_the_one_before_is_used(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Batch:
        def __init__(self, number: int) -> None:
            self.number = number

        def to(self, device: torch.device, non_blocking: bool) -> "Batch":
            assert non_blocking
            events.append(f"copy {self.number}")
            return self

        def record_stream(self, stream: Any) -> None:
            events.append(f"keep {self.number}")

    class Stream:
        def __init__(self, device: torch.device) -> None: ...

        def wait_stream(self, other: Any) -> None:
            events.append("wait")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    for batch, extra in on_device(((Batch(number), number) for number in range(count)), torch.device("cuda")):
        assert batch.number == extra
        events.append(f"use {extra}")
    expected = []
    for number in range(count):
        expected += [f"copy {number}", *([f"use {number - 1}"] if number else []), "wait", f"keep {number}"]
    assert events == expected + ([f"use {count - 1}"] if count else [])


@pytest.mark.cuda
def test_batches_on_a_gpu_equal_those_on_the_cpu(pictures: Path) -> None:
    expected = list(imagenet(pictures).train_batches(0, batch_size=4, seed=0))
    batches = imagenet(pictures, workers=1).to("cuda").train_batches(0, batch_size=4, seed=0)
    for one, other in zip(expected, batches, strict=True):
        assert other.inputs.is_cuda
        assert torch.allclose(one.inputs, other.inputs.cpu(), atol=1e-4)
        assert torch.equal(one.targets, other.targets.cpu())

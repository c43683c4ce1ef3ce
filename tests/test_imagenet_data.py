"""ImageNet: where its images and labels are looked for, random and centre crops, files that cannot be decoded."""

import gc
import logging
import math
import os
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as reference

from reldrop import data
from reldrop.data import ImageData, framing
from reldrop.data.decode import decode
from reldrop.data.transfer import on_device
from reldrop.errors import ReldropError
from reldrop.seeding import generator

WNIDS = ("n01440764", "n01443537", "n02119789")
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
SMALL = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "size": 16, "eval_resize": 20, "workers": 0}  # inputs are pixels
CROP = framing.RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), "bilinear")


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth structure and noise, so that a crop in the wrong place shows."""
    draws = np.random.default_rng(seed)
    coarse = Image.fromarray(draws.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = draws.integers(-10, 11, size=(size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8))


def shade(label: int) -> int:
    return 40 + 80 * label


def plain(label: int) -> Image.Image:
    """An image of one grey, which tells its label however it is cropped."""
    return Image.new("RGB", (30 + label, 24), (shade(label),) * 3)


def make_train(base: Path, count: int = 4, split: str = "train") -> Path:
    for label, wnid in enumerate(WNIDS):
        folder = base / split / wnid
        folder.mkdir(parents=True)
        for index in range(count):
            plain(label).save(folder / f"{wnid}_{index}.JPEG")
    return base


def make_flat_val(base: Path, labels: tuple[int, ...] = (2, 0, 1, 1, 0)) -> list[str]:
    (base / "val").mkdir(parents=True, exist_ok=True)
    for index, label in enumerate(labels, 1):
        plain(label).save(base / "val" / f"ILSVRC2012_val_{index:08}.JPEG")
    return [WNIDS[label] for label in labels]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Three classes of four training and two test images, in class folders."""
    return make_train(make_train(tmp_path / "imagenet"), 2, "val")


def imagenet(base: Path, **settings: Any) -> ImageData:
    return data.imagenet(root=str(base.parent), folders=[base.name], name="imagenet", **{**SMALL, **settings})


def greys(batches: Any) -> list[list[int]]:
    return [[round(value) for value in inputs.mean((1, 2, 3)).tolist()] for inputs, _ in batches]


def assert_same(expected: list[tuple[Tensor, Tensor]], actual: list[tuple[Tensor, Tensor]]) -> None:
    assert len(expected) == len(actual) > 0
    for one, other in zip(expected, actual, strict=True):
        assert all(map(torch.equal, one, other))


# ---- crops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(64, 48), (31, 90), (300, 211), (20, 20)])
def test_evaluation_crops_equal_torchvisions(tmp_path: Path, size: tuple[int, int], interpolation: str) -> None:
    picture(0, size).save(tmp_path / "image.JPEG")
    image = Image.open(tmp_path / "image.JPEG")
    expected = reference.center_crop(reference.resize(image, 32, FILTERS[interpolation]), 28)
    actual = decode(str(tmp_path / "image.JPEG"), 28, framing.CentreCrop(32, interpolation))
    assert np.array_equal(actual.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_training_crops_equal_a_crop_that_is_resized(tmp_path: Path, mode: str, interpolation: str) -> None:
    path = tmp_path / "image.JPEG"
    picture(0, (64, 48)).convert(mode).save(path)
    image = Image.open(path).convert("RGB")
    crop = framing.RandomResizedCrop((0.08, 1), (0.75, 1.25), interpolation)
    for draws in crop.draw(20, generator(0, "test")):
        left, top, right, bottom = crop.box(draws, 64, 48)
        expected = reference.resized_crop(
            image, top, left, bottom - top, right - left, [40, 40], FILTERS[interpolation], antialias=True
        )
        actual = decode(str(path), 40, partial(crop, draws=draws))
        assert np.array_equal(actual.transpose(1, 2, 0), np.asarray(expected))


def test_large_files_are_decoded_smaller_without_moving_the_crop(tmp_path: Path) -> None:
    path = tmp_path / "image.JPEG"
    picture(0, (803, 601)).save(path, quality=95)
    whole = Image.open(path).convert("RGB")
    widths = set()
    for draws in CROP.draw(30, generator(0, "test")):
        with Image.open(path) as image:
            actual = np.asarray(CROP(image, 100, draws), float)
            widths.add(image.width)
        expected = whole.crop(CROP.box(draws, 803, 601)).resize((100, 100), Image.Resampling.BILINEAR)
        assert np.abs(actual - np.asarray(expected, float)).mean() < 1.5
    assert widths == {201, 402, 803}


def boxes(crop: framing.RandomResizedCrop, size: tuple[int, int], count: int = 4000) -> np.ndarray:
    found = np.array([crop.box(draws, *size) for draws in crop.draw(count, generator(0, "law"))])
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= size).all()
    assert (found[:, 2:] > found[:, :2]).all()
    return found


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of Kolmogorov and Smirnov, between two samples."""
    both = np.concatenate([one, other])
    ranks = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (one, other)]
    return np.abs(ranks[0] - ranks[1]).max()


def test_boxes_have_uniform_areas_log_uniform_ratios_and_uniform_places() -> None:
    crop = framing.RandomResizedCrop((0.1, 0.3), (0.5, 2.0), "bilinear")  # all of these fit in
    left, top, right, bottom = boxes(crop, (1000, 1000)).T
    width, height = right - left, bottom - top
    grid = (np.arange(4000) + 0.5) / 4000
    limit = 1.63 / math.sqrt(4000)  # at a level of 1 %
    assert distance((width * height / 1e6 - 0.1) / 0.2, grid) < limit
    assert distance(np.log(width / height) / math.log(4) + 0.5, grid) < limit
    assert distance((left + 0.5) / (1001 - width), grid) < limit
    assert distance((top + 0.5) / (1001 - height), grid) < limit
    assert (
        np.abs(
            np.corrcoef([width * height, width / height, left / (1001 - width), top / (1001 - height)]) - np.eye(4)
        ).max()
        < 0.06
    )


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (900, 200)])
def test_boxes_have_the_law_of_torchvision(size: tuple[int, int]) -> None:
    ours = boxes(CROP, size)
    blank = torch.empty(1, size[1], size[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in drawn])
    limit = 1.63 * math.sqrt(2 / 4000)
    for features in (lambda box: box[:, 0], lambda box: box[:, 1], lambda box: (box[:, 2:] - box[:, :2]).prod(1)):
        assert distance(features(ours), features(theirs)) < limit


@pytest.mark.parametrize(("size", "box"), [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506))])
def test_the_centre_is_taken_where_no_box_fits(size: tuple[int, int], box: tuple[int, ...]) -> None:
    crop = framing.RandomResizedCrop((0.5, 1), (3 / 4, 4 / 3), "bilinear")
    assert (boxes(crop, size, 50) == box).all()


# ---- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of seven training and two test images of different sizes, no two the same."""
    base = tmp_path / "imagenet"
    for split, count in (("train", 7), ("val", 2)):
        for label, wnid in enumerate(WNIDS[:2]):
            (base / split / wnid).mkdir(parents=True)
            for index in range(count):
                image = picture(100 * label + index, (40 + 3 * index, 30 + label))
                image.save(base / split / wnid / f"{index}.JPEG")
    return base


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_epochs_are_the_same_from_any_batch_and_with_any_number_of_workers(pictures: Path, workers: int) -> None:
    expected = list(imagenet(pictures).train_batches(3, batch_size=4, seed=7))
    assert [len(targets) for _, targets in expected] == [4, 4, 4, 2]
    images = imagenet(pictures, workers=workers)
    for start in (0, 1, 3):
        assert_same(expected[start:], list(images.train_batches(3, batch_size=4, seed=7, start=start)))
    given_up = images.train_batches(3, batch_size=4, seed=7)
    begun = [next(given_up)]
    assert len(list(images.eval_batches("train", batch_size=5))) == 3
    given_up.close()
    assert_same(expected[:1], begun)
    assert_same(expected, list(images.train_batches(3, batch_size=4, seed=7)))
    for epoch, seed in ((4, 7), (3, 8)):
        other = next(images.train_batches(epoch, batch_size=4, seed=seed))
        assert not torch.equal(other[0], expected[0][0])


def test_batches_are_the_crops_that_were_drawn_some_of_them_flipped(pictures: Path) -> None:
    images = imagenet(pictures)
    flips = []
    for number, (inputs, targets) in enumerate(images.train_batches(2, batch_size=4, seed=5)):
        draws = CROP.draw(len(inputs), generator(5, "resized crop", 2, number))
        for pixels, row, target in zip(inputs, draws, targets, strict=True):
            paths = [
                path
                for path, label in zip(images.train.images.paths, images.train.labels, strict=True)
                if label == target
            ]
            crops = [torch.from_numpy(decode(path, 16, partial(CROP, draws=row)).copy()) for path in paths]
            found = [
                (torch.equal(pixels.round(), crop.float()), torch.equal(pixels.round(), crop.flip(-1).float()))
                for crop in crops
            ]
            assert sum(map(any, found)) == 1
            flips.append(any(flipped for _, flipped in found))
    assert 0 < sum(flips) < len(flips) == 14


def test_evaluation_sees_centre_crops_in_memory_or_not(pictures: Path) -> None:
    kept, streamed = imagenet(pictures), imagenet(pictures, memory_limit_gb=0)
    assert isinstance(kept.test.images, Tensor)
    assert not isinstance(kept.train.images, Tensor)
    assert not isinstance(streamed.test.images, Tensor)
    for split in ("train", "test"):
        expected = list(streamed.eval_batches(split, batch_size=4))
        assert_same(expected, list(kept.eval_batches(split, batch_size=4)))
        paths = sorted((pictures / ("train" if split == "train" else "val")).rglob("*.JPEG"))
        crops = [decode(str(path), 16, framing.CentreCrop(20, "bilinear")) for path in paths]
        assert np.array_equal(torch.cat([inputs for inputs, _ in expected]).round().numpy(), np.stack(crops))


def test_training_on_centre_crops_stays_in_memory_and_equals_streaming(pictures: Path) -> None:
    kept, streamed = imagenet(pictures, crop_scale=None), imagenet(pictures, crop_scale=None, memory_limit_gb=0)
    assert isinstance(kept.train.images, Tensor)
    assert_same(*(list(each.train_batches(0, batch_size=4, seed=0)) for each in (kept, streamed)))


def test_workers_of_a_batch_that_nobody_takes_end_at_once(pictures: Path) -> None:
    images = imagenet(pictures, workers=2)
    batches = images.train_batches(0, batch_size=2, seed=0)
    next(batches)
    started = time.perf_counter()
    batches.close()
    del images, batches
    gc.collect()
    assert time.perf_counter() - started < 4


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_equal_those_on_the_cpu(pictures: Path) -> None:
    expected = list(imagenet(pictures).train_batches(0, batch_size=4, seed=0))
    batches = imagenet(pictures, workers=1).to("cuda").train_batches(0, batch_size=4, seed=0)
    for (inputs, targets), (other_inputs, other_targets) in zip(expected, batches, strict=True):
        assert other_inputs.is_cuda
        assert torch.allclose(inputs, other_inputs.cpu(), atol=1e-4)
        assert torch.equal(targets, other_targets.cpu())


# ---- files that cannot be decoded -------------------------------------------------------------------------------------


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
    images = imagenet(base, corrupt="skip", workers=workers)
    for epoch in range(3):
        caplog.clear()
        batches = list(images.train_batches(epoch, batch_size=4, seed=0))
        assert [len(targets) for _, targets in batches] == [4, 4, 4]
        for found, (_, targets) in zip(greys(batches), batches, strict=True):
            assert found == [shade(int(target)) for target in targets]
        said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert said[-1] == "2 of 12 images could not be decoded and were replaced by others of their batches"
        named = sorted(message.split(": ")[1].split()[-1] for message in said[:-1])
        assert named == (sorted(map(str, damaged)) if epoch == 0 else [])
        for start in (1, 2):
            assert_same(batches[start:], list(images.train_batches(epoch, batch_size=4, seed=0, start=start)))


def test_the_next_readable_image_is_taken_in_a_crop_of_its_own(pictures: Path) -> None:
    intact = list(imagenet(pictures, flip=False).train_batches(0, batch_size=7, seed=0))
    images = imagenet(pictures, flip=False, corrupt="skip")
    order = torch.randperm(14, generator=generator(0, "order", 0)).tolist()
    for place in (2, 3):
        Path(images.train.images.paths[order[place]]).write_bytes(b"")
    inputs, targets = next(images.train_batches(0, batch_size=7, seed=0))
    draws = CROP.draw(7, generator(0, "resized crop", 0, 0))
    for place in range(7):
        if place not in (2, 3):
            assert torch.equal(inputs[place], intact[0][0][place])
        else:
            crop = decode(images.train.images.paths[order[4]], 16, partial(CROP, draws=draws[place]))
            assert np.array_equal(inputs[place].round().numpy(), crop)
            assert targets[place] == targets[4]


@pytest.mark.parametrize("memory_limit_gb", [0, 1])
def test_evaluation_goes_without_skipped_images(
    base: Path, memory_limit_gb: float, caplog: pytest.LogCaptureFixture
) -> None:
    (damaged,) = damage(base, "val/n01440764/n01440764_1.JPEG")
    images = imagenet(base, corrupt="skip", memory_limit_gb=memory_limit_gb)
    for batch_size, sizes in ((4, (3, 2)), (1, (1, 1, 1, 1, 1))):
        batches = list(images.eval_batches("test", batch_size=batch_size))
        assert sum(len(targets) for _, targets in batches) == 5
        assert memory_limit_gb or tuple(len(targets) for _, targets in batches) == sizes
        for found, (_, targets) in zip(greys(batches), batches, strict=True):
            assert found == [shade(int(target)) for target in targets]
        items = list(images.eval_items("test", batch_size=batch_size))
        assert_same(batches, [item[:2] for item in items])
        for _, targets, indices in items:
            paths = [images.test.paths[index] for index in indices.tolist()]
            assert str(damaged) not in paths
            assert [Path(path).parent.name for path in paths] == [WNIDS[target] for target in targets]
    assert images.test.reading.frame == framing.CentreCrop(20, "bilinear")
    assert sum(str(damaged) in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("memory_limit_gb", [0, 1])
def test_a_split_of_which_nothing_can_be_decoded_is_refused(base: Path, memory_limit_gb: float) -> None:
    for path in (base / "val").rglob("*.JPEG"):
        path.write_bytes(b"")
    with pytest.raises(ReldropError, match=r"none of .*6 images.* can be decoded"):
        list(imagenet(base, corrupt="skip", memory_limit_gb=memory_limit_gb).eval_batches("test", batch_size=4))
    for path in (base / "train").rglob("*.JPEG"):
        path.write_bytes(b"")
    plain(0).save(base / "val" / WNIDS[0] / "good.png")
    with pytest.raises(ReldropError, match="no image of a batch of 4 can be decoded"):
        list(imagenet(base, corrupt="skip").train_batches(0, batch_size=4, seed=0))


# ---- folders, labels and classes --------------------------------------------------------------------------------------


def test_class_folders(base: Path) -> None:
    images = imagenet(base)
    assert images.classes == WNIDS
    assert (images.size, images.channels, images.source) == (16, 3, "image files in folder imagenet")
    assert images.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    small = imagenet(base, subset=6, test_subset=3, validation=0.25)
    assert (len(small.train), len(small.validation), len(small.test)) == (6, 3, 3)
    inputs, targets = next(small.eval_batches("validation", batch_size=8))
    assert greys([(inputs, targets)])[0] == [shade(label) for label in (0, 1, 2)]


def ground_truth(base: Path, wnids: list[str]) -> None:
    """Ids in an order that is not alphabetical, as the devkit's, where a kit fox is the first."""
    kit = base / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    ids = {"n02119789": 1, "n01443537": 2, "n01440764": 3, "n09999999": 4}
    (kit / "map_clsloc.txt").write_text("".join(f"{wnid} {number} a_name\n" for wnid, number in ids.items()))
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{ids[wnid]}\n" for wnid in wnids))


def synset_labels(base: Path, wnids: list[str]) -> None:
    (base / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(wnids) + "\n")


def solution(base: Path, wnids: list[str]) -> None:
    rows = [f"ILSVRC2012_val_{index:08},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for index, wnid in enumerate(wnids, 1)]
    (base / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))


@pytest.mark.parametrize("write", [ground_truth, synset_labels, solution])
@pytest.mark.parametrize("outside", [False, True])
def test_a_flat_val_folder_with_its_labels_in_a_file(tmp_path: Path, write: Any, outside: bool) -> None:
    base = make_train(tmp_path / "imagenet")
    write(tmp_path if outside else base, make_flat_val(base))
    images = imagenet(base)
    assert images.test.labels.tolist() == [2, 0, 1, 1, 0]
    assert greys(images.eval_batches("test", batch_size=5)) == [[shade(label) for label in (2, 0, 1, 1, 0)]]
    chosen = imagenet(base, classes=[WNIDS[2], WNIDS[1]])
    assert chosen.classes == WNIDS[1:]
    assert chosen.test.labels.tolist() == [1, 0, 0]
    assert greys(chosen.eval_batches("test", batch_size=5)) == [[shade(label) for label in (2, 1, 1)]]


def test_files_of_labels_by_name(tmp_path: Path) -> None:
    base = make_train(tmp_path / "imagenet")
    ground_truth(base, make_flat_val(base))
    (base / "ILSVRC2012_devkit_t12").rename(tmp_path / "kit")
    with pytest.raises(ReldropError, match=r"labels of the val images not found: looked .* set dataset.val_labels"):
        imagenet(base)
    truth, ids = "kit/data/ILSVRC2012_validation_ground_truth.txt", tmp_path / "kit" / "data" / "map_clsloc.txt"
    with pytest.raises(ReldropError, match=r"which WNIDs the ids in .* are not found: .* set dataset.synset_ids"):
        imagenet(base, val_labels=truth)
    assert imagenet(base, val_labels=truth, synset_ids=str(ids)).test.labels.tolist() == [2, 0, 1, 1, 0]


def test_mistakes_in_files_of_labels_are_explained(tmp_path: Path) -> None:
    base = make_train(tmp_path / "imagenet")
    wnids = make_flat_val(base)
    synset_labels(base, wnids[:-1])
    with pytest.raises(ReldropError, match=r"labels.txt has 4 labels for 5 images; it needs a line for each"):
        imagenet(base)
    synset_labels(base, ["n00000001", *wnids[1:]])
    with pytest.raises(ReldropError, match="val has images of n00000001, a class without training images"):
        imagenet(base)
    (base / "imagenet_2012_validation_synset_labels.txt").unlink()
    solution(base, wnids[:-1])
    with pytest.raises(ReldropError, match=r"solution.csv has no label for the image ILSVRC2012_val_00000005"):
        imagenet(base)
    (base / "LOC_val_solution.csv").unlink()
    ground_truth(base, wnids)
    ids = base / "ILSVRC2012_devkit_t12" / "data" / "map_clsloc.txt"
    ids.write_text("n02119789 1 kit_fox\n")
    with pytest.raises(ReldropError, match=r"ground_truth.txt has the id 3, which no line"):
        imagenet(base)
    ids.write_text("n02119789 1 kit_fox\nn01443537 goldfish\n")
    with pytest.raises(
        ReldropError, match=r"map_clsloc.txt, line 2: 'n01443537 goldfish' is not a WNID and its ILSVRC"
    ):
        imagenet(base)


def test_choices_of_classes(base: Path) -> None:
    (base.parent / "chosen.txt").write_text(f"{WNIDS[2]} kit fox\n\n{WNIDS[0]}\n")
    for classes in (list(reversed(WNIDS[::2])), "chosen.txt", str(base.parent / "chosen.txt")):
        images = imagenet(base, classes=classes)
        assert images.classes == WNIDS[::2]
        assert images.test.labels.tolist() == [0, 0, 1, 1]
        assert greys(images.eval_batches("test", batch_size=9)) == [[shade(label) for label in (0, 0, 2, 2)]]
    with pytest.raises(ReldropError, match=f"classes=n00000007 has no images in {base}/train"):
        imagenet(base, classes=[WNIDS[0], "n00000007"])
    with pytest.raises(ReldropError, match=r"classes=\[\] must be some WNIDs"):
        imagenet(base, classes=[])
    with pytest.raises(ReldropError, match=f"cannot read {base.parent}/none.txt"):
        imagenet(base, classes="none.txt")


def test_val_alone(base: Path) -> None:
    for path in sorted((base / "train").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (base / "train").rmdir()
    with pytest.raises(ReldropError, match=r"not found: .* for train/WNID and val \(.*dataset.train_split=val trains"):
        imagenet(base)
    images = imagenet(base, train_split="val")
    assert (len(images.train), len(images.test), images.classes) == (6, 6, WNIDS)


def test_folders_are_looked_through_in_order(base: Path) -> None:
    settings = {**SMALL, "root": str(base.parent), "name": "imagenet"}
    nested = base.parent / "ILSVRC" / "Data" / "CLS-LOC"
    nested.parent.mkdir(parents=True)
    base.rename(nested)
    found = data.imagenet(folders=["imagenet", "ILSVRC/Data/CLS-LOC", "."], **settings)
    assert found.source == "image files in folder CLS-LOC"
    with pytest.raises(
        ReldropError, match=r"ImageNet not found: looked in .*imagenet \(no such folder\).*RELDROP_DATA"
    ):
        data.imagenet(folders=["imagenet"], **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_resize": 15}, "eval_resize=15 must be at least size=16"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"interpolation": "nearest"}, "interpolation='nearest' must be 'bilinear' or 'bicubic'"),
        (
            {"crop_scale": [0.5, 1.5]},
            r"crop_scale=\[0.5, 1.5\] must be at most 1 at index 1",
        ),
        ({"crop_scale": [0.5]}, r"crop_scale=\[0.5\] must be a list of at least 2 values"),
        ({"crop_ratio": [2, 1]}, r"crop_ratio=\[2, 1\] must have the smaller number first"),
        ({"train_split": "test"}, "train_split='test' must be 'train' or 'val'"),
        ({"corrupt": "ignore"}, "corrupt='ignore' must be 'error' or 'skip'"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
    ],
)
def test_settings_out_of_range_are_explained(base: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        imagenet(base, **settings)


def test_mistakes_in_folders_are_explained(base: Path) -> None:
    plain(0).save(base / "val" / "n01440764" / "more.png")
    (base / "train" / "n05").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/train/n05 has no images; add some, or remove it"):
        imagenet(base)
    (base / "train" / "n05").rename(base / "val" / "n05")
    plain(0).save(base / "val" / "n05" / "0.png")
    with pytest.raises(ReldropError, match=f"{base}/val has images of n05, a class without training images"):
        imagenet(base)
    assert len(imagenet(base, classes=list(WNIDS)).test) == 7


def test_real_images() -> None:
    try:
        images = data.imagenet(
            root=os.environ.get("RELDROP_DATA", ""),
            folders=["imagenet_sample"],
            name="imagenet",
            mean=[0.485, 0.456, 0.406],
            std=[0.229, 0.224, 0.225],
            train_split="val",
            subset=200,
            test_subset=100,
            workers=1,
        )
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip("the environment variable RELDROP_DATA leads to no imagenet_sample")
    assert images.num_classes == 1000
    for batches, count in (
        (images.train_batches(0, batch_size=100, seed=0), 200),
        (images.eval_batches("test", batch_size=100), 100),
    ):
        inputs, targets = map(torch.cat, zip(*batches, strict=True))
        assert inputs.shape == (count, 3, 224, 224)
        assert len(targets.unique()) == count
        assert inputs.mean().abs() < 0.3
        assert 0.8 < inputs.std() < 1.3

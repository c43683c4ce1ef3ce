"""Data sets of images: where they are looked for, which images are chosen, and the batches made of them."""

import hashlib
import inspect
import itertools
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10

from reldrop import data
from reldrop.data import ImageData, ImageSplit
from reldrop.data.decode import decode
from reldrop.data.framing import fit
from reldrop.data.selection import evenly, hold_out
from reldrop.errors import ReldropError
from reldrop.shares import Share

CONFIGS = Path(__file__).parents[1] / "conf" / "dataset"
DIGITS = {"name": "digits", "mean": [0.3053], "std": [0.3759]}
RGB = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def picture(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(*reversed(size), 3), dtype=np.uint8))


def make_folders(base: Path, classes: int = 3, train: int = 5, test: int = 2, size: int = 8) -> Path:
    """Make PNG images, no two the same, in train/CLASS and test/CLASS."""
    seeds = itertools.count()
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            folder = base / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                picture(next(seeds), (size, size)).save(folder / f"{index}.png")
    return base


def folder_data(base: Path, **settings: Any) -> ImageData:
    return data.image_folder(root=str(base.parent), folder=base.name, **{"size": 8, "workers": 0, **RGB, **settings})


def memory_data(count: int = 11, **settings: Any) -> ImageData:
    """`count` training images of one value each, which tells them apart."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous()
    split = ImageSplit(images, torch.arange(count) % 2)
    test = ImageSplit(images[:4], split.labels[:4])
    return ImageData("values", ("even", "odd"), 4, (0.0,), (1 / 255,), "memory", split, test, **settings)


def first_pixels(batches: Any) -> list[int]:
    return [round(value) for inputs, _ in batches for value in inputs[:, 0, 0, 0].tolist()]


# ---- batches ----------------------------------------------------------------------------------------------------------


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
    assert [len(targets) for _, targets in images.train_batches(0, batch_size=batch_size, seed=0)] == sizes
    assert images.steps_per_epoch(batch_size) == len(sizes)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_start_skips_batches_and_changes_no_other(start: int) -> None:
    images = memory_data(14, crop_padding=2, flip=True)
    whole = list(images.train_batches(3, batch_size=5, seed=7))
    rest = list(images.train_batches(3, batch_size=5, seed=7, start=start))
    assert_same_batches(whole[start:], rest)


def test_targets_belong_to_their_inputs() -> None:
    for inputs, targets in memory_data(10).train_batches(0, batch_size=4, seed=0):
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert torch.equal(inputs[:, 0, 0, 0].round().long() % 2, targets)


def test_padding_is_black_before_normalisation() -> None:
    images = memory_data(200, crop_padding=1)
    images.mean, images.std = (0.5,), (0.25,)
    images.to("cpu")
    inputs, _ = next(images.train_batches(0, batch_size=200, seed=0))
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
    batches = list(images.eval_items("train", batch_size=4, limit=6))
    assert [indices.dtype for _, _, indices in batches] == [torch.int64] * 2
    for inputs, targets, indices in batches:
        assert torch.equal(inputs[:, 0, 0, 0].round().long(), indices)
        assert torch.equal(images.train.labels[indices], targets)
    assert_same_batches(list(images.eval_batches("train", batch_size=4, limit=6)), [batch[:2] for batch in batches])
    shares = [images.eval_items("train", batch_size=3, share=Share(rank, 2)) for rank in range(2)]
    assert sorted(index for share in shares for _, _, part in share for index in part.tolist()) == list(range(20))


@pytest.mark.parametrize("memory_limit_gb", [0, 1])
def test_images_keep_the_paths_of_their_files(tmp_path: Path, memory_limit_gb: float) -> None:
    base = make_folders(tmp_path / "some")
    images = folder_data(base, memory_limit_gb=memory_limit_gb, validation=0.2, subset=6, test_subset=3)
    for split, count in ((images.train, 6), (images.validation, 3), (images.test, 3)):
        assert len(split.paths) == len(split.labels) == count
        assert [int(Path(path).parent.name[-1]) for path in split.paths] == split.labels.tolist()
    for inputs, _, indices in images.eval_items("test", batch_size=2):
        pixels = [torch.from_numpy(decode(images.test.paths[index], 8)) for index in indices.tolist()]
        assert torch.equal(inputs, images.normalise(torch.stack(pixels)))
    assert images.test.reading.frame is fit
    assert data.digits(**DIGITS).test.paths is None


def test_normalise_and_back() -> None:
    images = folder_like(torch.randint(256, (6, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8))
    inputs = images.normalise(images.train.images)
    mean, std = (torch.tensor(RGB[key])[None, :, None, None] for key in ("mean", "std"))
    assert torch.equal(inputs, (images.train.images.float() / 255 - mean) / std)
    assert torch.allclose(images.denormalise(inputs), images.train.images / 255, atol=1e-6)
    assert images.denormalise(inputs + 100).max() == 1


def folder_like(images: Tensor) -> ImageData:
    split = ImageSplit(images, torch.zeros(len(images), dtype=torch.int64))
    return ImageData("random", ("only",), images.shape[-1], RGB["mean"], RGB["std"], "memory", split, split)


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    images = folder_data(make_folders(tmp_path / "some"), memory_limit_gb=0)
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
        (lambda images: data.digits("digits", [0.3], [0.0]), r"std=\[0.0\] must be above 0"),
    ],
)
def test_mistakes_in_use_are_explained(call: Any, message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        call(memory_data())


# ---- streaming --------------------------------------------------------------------------------------------------------


def assert_same_batches(expected: list[tuple[Tensor, Tensor]], actual: list[tuple[Tensor, Tensor]]) -> None:
    assert len(expected) == len(actual)
    for (inputs, targets), (other_inputs, other_targets) in zip(expected, actual, strict=True):
        assert torch.equal(inputs, other_inputs)
        assert torch.equal(targets, other_targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_equals_memory(tmp_path: Path, workers: int) -> None:
    base = make_folders(tmp_path / "some")
    settings = {"crop_padding": 1, "flip": True, "validation": 0.2}
    kept, streamed = folder_data(base, **settings), folder_data(base, memory_limit_gb=0, workers=workers, **settings)
    assert isinstance(kept.train.images, Tensor)
    assert not isinstance(streamed.train.images, Tensor)
    for epoch, start in ((0, 0), (1, 0), (1, 2), (1, 3)):
        batches = [list(each.train_batches(epoch, batch_size=4, seed=0, start=start)) for each in (kept, streamed)]
        assert_same_batches(*batches)
    for split in ("train", "validation", "test"):
        assert_same_batches(*(list(each.eval_batches(split, batch_size=4, limit=5)) for each in (kept, streamed)))


def test_streamed_training_images_can_be_evaluated_amid_an_epoch_that_is_then_given_up(tmp_path: Path) -> None:
    images = folder_data(make_folders(tmp_path / "some"), memory_limit_gb=0, workers=1)
    expected = list(images.train_batches(0, batch_size=4, seed=0))
    training = images.train_batches(0, batch_size=4, seed=0)
    begun = [next(training), next(training)]
    assert len(list(images.eval_batches("train", batch_size=4))) == 4
    assert_same_batches(expected[:3], [*begun, next(training)])
    training.close()
    assert_same_batches(expected, list(images.train_batches(0, batch_size=4, seed=0)))


@pytest.mark.parametrize("workers", [0, 1])
def test_streaming_names_a_damaged_image_without_a_workers_traceback(tmp_path: Path, workers: int) -> None:
    base = make_folders(tmp_path / "some")
    damaged = base / "train" / "class1" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    images = folder_data(base, memory_limit_gb=0, workers=workers)
    with pytest.raises(ReldropError, match=f"^cannot decode image {damaged}: .*; replace or remove it$"):
        list(images.train_batches(0, batch_size=4, seed=0))


# ---- choosing images --------------------------------------------------------------------------------------------------


def test_subsets_are_even_and_nested() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 4)
    chosen = {count: evenly(labels, count, "subset") for count in (9, 21, 60, 84)}
    assert labels[chosen[9]].bincount().tolist() == [3, 3, 3]
    assert sorted(labels[chosen[21]].bincount().tolist()) == [4, 8, 9]
    assert labels[chosen[60]].bincount().tolist() == [28, 28, 4]
    assert chosen[84].tolist() == list(range(84))
    assert set(chosen[9].tolist()) <= set(chosen[21].tolist()) <= set(chosen[60].tolist())
    assert evenly(labels, None, "subset").tolist() == list(range(84))
    assert evenly(labels, 9, "subset").tolist() == chosen[9].tolist() == sorted(chosen[9].tolist())


def test_held_out_images_are_the_same_share_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)[
        torch.randperm(90, generator=torch.Generator().manual_seed(0))
    ]
    stay, out = hold_out(labels, 18, "validation")
    assert labels[out].bincount().tolist() == [10, 6, 2]
    assert sorted([*stay.tolist(), *out.tolist()]) == list(range(90))


def test_validation_is_taken_before_the_subset(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some", train=10)
    plain = folder_data(base, validation=0.2)
    small = folder_data(base, validation=0.2, subset=6, test_subset=3)
    assert (len(plain.train), len(plain.validation), len(plain.test)) == (24, 6, 6)
    assert plain.validation.labels.bincount().tolist() == [2, 2, 2]
    assert (len(small.train), len(small.test)) == (6, 3)
    assert torch.equal(plain.validation.images, small.validation.images)
    assert len(torch.cat([plain.train.images, plain.validation.images]).unique(dim=0)) == 30


def test_only_chosen_images_are_decoded(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some")
    chosen = folder_data(base, subset=6, memory_limit_gb=0).train.images.paths
    for path in (base / "train").rglob("*.png"):
        if str(path) not in chosen:
            path.write_bytes(b"")
    assert len(folder_data(base, subset=6).train) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": 16}, "subset=16 must be a whole number of images from 1 to the 15 there are"),
        ({"subset": 0}, "subset=0 must be at least 1"),
        ({"subset": 2.5}, "subset=2.5 must be a whole number"),
        ({"test_subset": 7}, "test_subset=7 must be a whole number of images from 1 to the 6"),
        ({"validation": 1.0}, "validation=1.0 must be below 1"),
        ({"validation": -0.1}, "validation=-0.1 must be at least 0"),
        ({"validation": 0.01}, "validation=0.01 of 15 training images leaves no image on one side"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
    ],
)
def test_settings_out_of_range_are_explained(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    base = make_folders(tmp_path / "some")
    with pytest.raises(ReldropError, match=message):
        folder_data(base, **settings)


# ---- image folders ----------------------------------------------------------------------------------------------------


def test_image_folder_lists_classes_and_files_sorted(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some", classes=2, train=2)
    nested = base / "train" / "class1" / "more"
    nested.mkdir()
    picture(1).save(nested / "x.JPG")
    picture(2).save(base / "train" / "class0" / "Z.JpEg")
    for hidden in (".hidden.png", "notes.txt"):
        (base / "train" / "class0" / hidden).write_text("not an image")
    (base / "train" / ".cache").mkdir()
    images = folder_data(base)
    assert images.name == "some"
    assert images.classes == ("class0", "class1")
    assert (images.num_classes, images.channels, images.size) == (2, 3, 8)
    assert images.source == "image files in folder some"
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    paths = folder_data(base, memory_limit_gb=0).train.images.paths
    assert [Path(path).name for path in paths] == ["0.png", "1.png", "Z.JpEg", "0.png", "1.png", "x.JPG"]
    assert np.array_equal(images.train.images[0].permute(1, 2, 0), Image.open(paths[0]))


@pytest.mark.parametrize("split", ["test", "val", "validation"])
def test_image_folder_takes_its_test_images_where_they_are(tmp_path: Path, split: str) -> None:
    base = make_folders(tmp_path / "some")
    (base / "test").rename(base / split)
    images = data.image_folder(root="nowhere", folder=str(base), name="mine", size=8, **RGB)
    assert (images.name, len(images.test)) == ("mine", 6)


@pytest.mark.parametrize(
    ("size", "inner"), [((16, 8), (4, 0, 12, 8)), ((8, 20), (0, 6, 8, 14)), ((8, 8), (0, 0, 8, 8))]
)
def test_decode_crops_the_centre(tmp_path: Path, size: tuple[int, int], inner: tuple[int, ...]) -> None:
    image = picture(0, size)
    image.save(tmp_path / "image.png")
    assert np.array_equal(decode(str(tmp_path / "image.png"), 8).transpose(1, 2, 0), image.crop(inner))


def test_decode_resizes_the_short_side(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30, 0] = 200  # the middle square
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode(str(tmp_path / "image.png"), 10)
    assert decoded.shape == (3, 10, 10)
    assert (decoded[0, :, 1:-1] == 200).all()
    assert (decoded[0] > 150).all()  # the filter reaches over the border of the crop
    assert (decoded[1:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_decode_reads_any_mode_as_rgb(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "image.tif")
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 300 * 128, np.uint16)).save(path)
    else:
        Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    decoded = decode(path, 8)
    assert (decoded.shape, decoded.dtype) == ((3, 8, 8), np.uint8)
    assert (decoded == (150 if mode == "I;16" else 255)).all()


def test_decode_refuses_pixels_without_a_range(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "image.tif")
    with pytest.raises(ReldropError, match=r"cannot decode image .*image.tif: floating-point"):
        decode(str(tmp_path / "image.tif"), 8)


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    base = make_folders(tmp_path / "some")
    damaged = base / "test" / "class2" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:80] if content == "truncated" else content)
    with pytest.raises(ReldropError, match=f"cannot decode image {damaged}: .*; replace or remove it"):
        folder_data(base)


def test_mistakes_in_folders_are_explained(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some")
    (base / "test" / "stray").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/test/stray is a class without training images"):
        folder_data(base)
    (base / "train" / "stray").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/train/stray has no images; add some"):
        folder_data(base)
    empty = tmp_path / "empty"
    (empty / "train").mkdir(parents=True)
    with pytest.raises(ReldropError, match=f"not found: looked in {empty} for test/CLASS"):
        folder_data(empty)
    (empty / "test").mkdir()
    with pytest.raises(ReldropError, match=f"{empty}/train has no class folders"):
        folder_data(empty)
    with pytest.raises(ReldropError, match=rf"looked in {tmp_path}/none \(no such folder\) for test/CLASS"):
        folder_data(tmp_path / "none")


# ---- digits -----------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    digits = data.digits(**DIGITS)
    assert (len(digits.train), len(digits.test)) == (1347, 450)
    assert (digits.num_classes, digits.channels, digits.size) == (10, 1, 8)
    assert digits.classes == tuple("0123456789")
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert digits.test.labels.bincount().min() >= 43
    images = torch.cat([digits.train.images, digits.test.images]) / 255
    assert images.mean().item() == pytest.approx(digits.mean[0], abs=1e-4)
    assert images.std().item() == pytest.approx(digits.std[0], abs=1e-4)
    assert torch.equal(digits.train.images, data.digits(**DIGITS).train.images)


# ---- CIFAR ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small cifar-10-batches-py; the checksums that torchvision expects are those of its files."""
    folder = tmp_path / "root" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch() -> dict[str, Any]:
        return {"data": draws.integers(256, size=(20, 3072), dtype=np.uint8), "labels": [*range(10)] * 2}

    meta = write("batches.meta", {"label_names": [f"name{label}" for label in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{part}", batch()) for part in (1, 2)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return folder.parent


def cifar(root: Path, **settings: Any) -> ImageData:
    return data.cifar(root=str(root), **{"variant": 10, "name": "cifar10", "workers": 0, **RGB, **settings})


def test_official_cifar(archive: Path) -> None:
    images = cifar(archive)
    assert (len(images.train), len(images.test), images.size, images.channels) == (40, 20, 32, 3)
    assert images.classes[3] == "name3"
    assert images.source == "official archive"
    raw = pickle.loads((archive / CIFAR10.base_folder / "data_batch_2").read_bytes())
    assert np.array_equal(images.train.images[20], raw["data"][0].reshape(3, 32, 32))
    assert len(cifar(archive, subset=10, test_subset=5, validation=0.5).validation) == 20


def test_packed_official_cifar_is_unpacked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cifar(archive)
    packed = archive / "cifar10" / CIFAR10.filename
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive / CIFAR10.base_folder, CIFAR10.base_folder)
    (archive / CIFAR10.base_folder).rename(archive / "elsewhere")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    assert torch.equal(cifar(archive).train.images, expected.train.images)
    assert (packed.parent / CIFAR10.base_folder).is_dir()


def test_damaged_official_cifar(archive: Path) -> None:
    with (archive / CIFAR10.base_folder / "test_batch").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ReldropError, match=f"official archive in {archive} is damaged or incomplete"):
        cifar(archive)


def test_damaged_packed_official_cifar(tmp_path: Path) -> None:
    (tmp_path / CIFAR10.filename).write_bytes(b"half of it")
    with pytest.raises(ReldropError, match=f"official archive in {tmp_path} is damaged or incomplete"):
        cifar(tmp_path)


def test_cifar_from_folders_and_the_archive_before_them(tmp_path: Path, archive: Path) -> None:
    make_folders(archive / "cifar10_jpeg", classes=10, train=2, test=1, size=32)
    assert cifar(archive).source == "official archive"
    (archive / CIFAR10.base_folder).rename(tmp_path / "elsewhere")
    images = cifar(archive)
    assert (len(images.train), len(images.test), images.size) == (20, 10, 32)
    assert images.source == "image files in folder cifar10_jpeg"


def test_cifar_with_the_wrong_number_of_classes(tmp_path: Path) -> None:
    make_folders(tmp_path / "cifar10", classes=3)
    with pytest.raises(ReldropError, match="cifar10/train has 3 class folders where CIFAR-10 has 10"):
        cifar(tmp_path)


def test_cifar_not_found(tmp_path: Path) -> None:
    with pytest.raises(ReldropError) as caught:
        cifar(tmp_path)
    for part in (
        f"CIFAR10 not found: looked in {tmp_path}, {tmp_path}/cifar10 (no such folder), {tmp_path}/cifar10_jpeg",
        "cifar-10-batches-py",
        "dataset.download=true",
        CIFAR10.url,
        "data_dir=PATH",
        "RELDROP_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(ReldropError, match=r"CIFAR100 not found: .*cifar100_jpeg .*cifar-100-python.tar.gz"):
        cifar(tmp_path, variant=100)
    with pytest.raises(ReldropError, match="variant=20 must be 10 or 100"):
        cifar(tmp_path, variant=20)


def test_cifar_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: CIFAR10) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(ReldropError, match=r"looked in .*; and downloading it failed \(no route to host\): put https"):
        cifar(tmp_path, download=True)


# ---- Tiny-ImageNet ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """Two classes in the original layout, one image of them grey."""
    base = tmp_path / "tiny-imagenet-200"
    (base / "val" / "images").mkdir(parents=True)
    lines = []
    for label, wnid in enumerate(("n01", "n02")):
        folder = base / "train" / wnid / "images"
        folder.mkdir(parents=True)
        (folder.parent / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        for index in range(3):
            image = picture(10 * label + index, (64, 64))
            (image.convert("L") if index == 0 else image).save(folder / f"{wnid}_{index}.JPEG")
        picture(label, (64, 64)).save(base / "val" / "images" / f"val_{label}.JPEG")
        lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (base / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return base


def tiny_imagenet(root: Path) -> ImageData:
    return data.tiny_imagenet(root=str(root), folders=[".", "tiny-imagenet-200"], name="tiny", **RGB)


def test_tiny_imagenet(tiny_folder: Path) -> None:
    images = tiny_imagenet(tiny_folder.parent)
    assert images.classes == ("n01", "n02")
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.test.labels.tolist() == [1, 0]
    assert images.train.images.shape == (6, 3, 64, 64)
    grey = images.train.images[0]
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(tiny_imagenet(tiny_folder).test.images, images.test.images)


def test_mistakes_in_tiny_imagenet_are_explained(tiny_folder: Path) -> None:
    table = tiny_folder / "val" / "val_annotations.txt"
    table.write_text("val_0.JPEG\tn01\t0\t0\t63\t63\nval_1.JPEG\tn99\t0\t0\t63\t63\n")
    with pytest.raises(ReldropError, match=r"val_annotations.txt, line 2: 'n99' is a class without training images"):
        tiny_imagenet(tiny_folder)
    table.write_text("val_7.JPEG\tn01\t0\t0\t63\t63\n")
    with pytest.raises(ReldropError, match=r"cannot decode image .*val_7.JPEG: .*No such file"):
        tiny_imagenet(tiny_folder)
    table.write_text("")
    with pytest.raises(ReldropError, match="lists no images"):
        tiny_imagenet(tiny_folder)
    table.unlink()
    with pytest.raises(
        ReldropError, match=r"Tiny-ImageNet not found: looked in .*200 \(no such folder\) for train/WNID"
    ):
        tiny_imagenet(tiny_folder)


# ---- configurations and real data -------------------------------------------------------------------------------------


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
    inputs, targets = next(images.train_batches(0, batch_size=500, seed=0))
    assert inputs.shape == (500, 3, size, size)
    assert targets.bincount().tolist() == [500 // images.num_classes] * images.num_classes
    assert inputs.mean().abs() < 0.5
    assert 0.7 < inputs.std() < 1.5

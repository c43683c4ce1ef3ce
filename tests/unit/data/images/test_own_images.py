"""Image folders as people have them: not split, linked, unlabeled, gray, with what systems leave beside the files."""

import logging
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reldrop import data
from reldrop.data.images.decoding import decode
from reldrop.utils.errors import ReldropError
from tests.helpers.images import RGB, folder_data, machine, make_folders, picture


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_folders(tmp_path / "some")


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    """Three classes of ten, not split."""
    made = make_folders(tmp_path / "made", train=10)
    return (made / "train").rename(tmp_path / "mine")


def said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


def test_a_folder_without_a_split_is_split_evenly_always_alike_and_says_so(
    unsplit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reldrop")
    images = folder_data(unsplit)
    assert images.classes == ("class0", "class1", "class2")
    assert images.train.labels.bincount().tolist() == [8, 8, 8]
    assert images.test.labels.bincount().tolist() == [2, 2, 2]
    assert not set(images.train.paths) & set(images.test.paths)
    assert said(caplog, logging.INFO) == [
        f"{unsplit}: of 30 images, 6 are for testing, of each class the same share, always the same ones "
        "(dataset.test_share=0.2)"
    ]
    assert folder_data(unsplit).test.paths == images.test.paths
    assert folder_data(unsplit, test_share=0.5).test.labels.bincount().tolist() == [5, 5, 5]
    with pytest.raises(ReldropError, match=r"^test_share=0.01 of 30 images leaves none on one side"):
        folder_data(unsplit, test_share=0.01)


def test_a_train_folder_alone_is_split_likewise(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reldrop")
    shutil.rmtree(base / "test")
    images = folder_data(base)
    assert (len(images.train), len(images.test)) == (12, 3)
    assert "of 15 images, 3 are for testing" in caplog.text


@pytest.mark.parametrize("names", [("train", "valid"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "Val")])
def test_usual_names_of_splits(base: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("train", "test"), names, strict=True):
        (base / old).rename(base / new)
    images = folder_data(base)
    assert images.classes == ("class0", "class1", "class2")
    assert (len(images.train), len(images.test)) == (15, 6)


def test_splits_inside_of_the_classes(base: Path) -> None:
    for split in ("train", "test"):
        for path in list((base / split).iterdir()):
            (base / path.name).mkdir(exist_ok=True)
            path.rename(base / path.name / split)
        (base / split).rmdir()
    images = folder_data(base)
    assert images.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert images.test.labels.tolist() == [0] * 2 + [1] * 2 + [2] * 2


def test_unlabeled_test_images_are_passed_over(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    (base / "test").rename(base / "val")
    (base / "test").mkdir()
    picture(0).save(base / "test" / "0.png")
    assert len(folder_data(base).test) == 6
    assert said(caplog)[0] == f"{base}: test/ is not used, but train/ and val/"
    caplog.clear()
    shutil.rmtree(base / "test")
    folder_data(base)
    assert said(caplog) == []


def test_links_are_followed_but_not_in_circles(base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for index in range(4):
        picture(50 + index).save(elsewhere / f"{index}.png")
    inside = base / "train" / "class0"
    (inside / "more").symlink_to(elsewhere)
    (inside / "again").symlink_to(inside)
    (inside / "above").symlink_to(base)
    (inside / "itself").symlink_to(inside / "itself")
    (inside / "one.png").symlink_to(elsewhere / "3.png")
    (elsewhere / "back").symlink_to(inside)
    (base / "train" / "class3").symlink_to(elsewhere)
    shutil.copytree(elsewhere, base / "test" / "class3", symlinks=True)
    images = folder_data(base)
    assert images.train.labels.bincount().tolist() == [5 + 4 + 1, 5, 5, 4 + 5 + 1]


def test_what_systems_leave_beside_images(base: Path) -> None:
    inside = base / "train" / "class0"
    for name in ("@eaDir/0.png", "__MACOSX"):
        (inside / name).mkdir(parents=True)
        picture(0).save(inside / name / "SYNOPHOTO_THUMB_M.jpg")
    for name in ("@eaDir", "__MACOSX", "lost+found", ".ipynb_checkpoints"):
        (base / "train" / name).mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (inside / name).write_text("no image")
    os.mkfifo(inside / "pipe.png")
    images = folder_data(base)
    assert images.classes == ("class0", "class1", "class2")
    assert len(images.train) == 15


def test_images_beside_the_class_folders_are_noticed(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "._a.JPG"):
        shutil.copy(base / "train" / "class0" / "0.png", base / "train" / name)
    os.mkfifo(base / "train" / "pipe.png")
    assert len(folder_data(base).train) == 15
    assert said(caplog) == [f"{base}: 2 images beside the class folders are left out, e.g. a.JPG"]


def test_a_class_without_test_images_is_noticed(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(base / "test" / "class1")
    assert folder_data(base).test.labels.tolist() == [0, 0, 2, 2]
    assert said(caplog) == [f"{base}: there are no images to test on of class1"]


def test_one_class_is_no_classification(tmp_path: Path) -> None:
    with pytest.raises(ReldropError, match="some has 1 class; classification needs at least 2"):
        _ = folder_data(make_folders(tmp_path / "some", classes=1)).model_kwargs


def test_names_in_another_unicode_form(base: Path) -> None:
    for split, form in (("train", "NFC"), ("test", "NFD")):
        (base / split / "class0").rename(base / split / unicodedata.normalize(form, "café"))
    images = folder_data(base)
    assert images.classes == (unicodedata.normalize("NFC", "café"), "class1", "class2")
    assert images.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_one_name_in_two_unicode_forms_is_one_class(base: Path) -> None:
    for name, form in (("class0", "NFC"), ("class1", "NFD")):
        (base / "train" / name).rename(base / "train" / unicodedata.normalize(form, "café"))
    with pytest.raises(ReldropError, match="is there in two Unicode forms of its name, as if it were two; merge them"):
        folder_data(base)


def test_names_that_look_like_numbers(base: Path) -> None:
    base.rename(base.with_name("2024"))
    images = data.image_folder(folder=2024, size=8, machine=machine(base.parent), **RGB)
    assert images.name == "2024"


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_grayscale_images_have_one_channel(base: Path, memory_gb: float) -> None:
    images = folder_data(base, grayscale=True, memory_gb=memory_gb)
    assert images.model_kwargs == {"num_classes": 3, "channels": 1, "size": 8}
    assert images.mean == pytest.approx([0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.3])
    batch = next(images.eval_batches("train", batch_size=15))
    shown = [np.asarray(Image.open(path).convert("L")) for path in images.train.paths]
    assert torch.equal(images.denormalize(batch.inputs).mul(255).round()[:, 0], torch.tensor(np.stack(shown)).float())
    one = folder_data(base, grayscale=True, memory_gb=memory_gb, mean=[0.3], std=[0.5])
    assert (one.mean, one.std, one.channels) == ((0.3,), (0.5,), 1)
    assert next(one.train_batches(0, batch_size=4, seed=0)).inputs.shape == (4, 1, 8, 8)


def test_gray_files_are_read_exactly(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode(str(tmp_path / "a.png"), 16, grayscale=True)[0], pixels)


def test_numbers_of_channels_that_do_not_fit_are_explained(base: Path) -> None:
    with pytest.raises(
        ReldropError, match=r"^mean=\[0.3\] must have a number for each channel, .* have 3; .*grayscale=true"
    ):
        folder_data(base, mean=[0.3], std=[0.5])
    with pytest.raises(ReldropError, match=r"^mean=\[0.5, 0.4, 0.3\] must have a number for each channel, .* have 1$"):
        data.digits(**RGB)


@pytest.mark.parametrize("size", [(40, 9), (9, 40), (1, 1), (300, 2)])
def test_images_that_are_not_square(base: Path, size: tuple[int, int]) -> None:
    picture(0, size).save(base / "train" / "class0" / "0.png")
    assert folder_data(base).train.images.shape == (15, 3, 8, 8)


def test_integers_of_32_bits_have_no_range(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200, np.int32)).save(tmp_path / "image.tif")
    with pytest.raises(
        ReldropError, match=r"cannot decode image .*image.tif: integer pixels of 32 bits.* no fixed range"
    ):
        decode(str(tmp_path / "image.tif"), 8)
    Image.fromarray(np.full((8, 8), 200 << 8, np.uint16)).save(tmp_path / "image.png")
    assert (decode(str(tmp_path / "image.png"), 8) == 200).all()

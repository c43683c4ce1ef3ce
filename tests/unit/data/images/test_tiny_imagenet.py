"""Tiny-imagenet."""

from pathlib import Path

import pytest
import torch

from reldrop import data
from reldrop.data import ImageData
from reldrop.utils.errors import ReldropError
from tests.helpers.images import RGB, machine, picture


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
    return data.tiny_imagenet(folders=[".", "tiny-imagenet-200"], machine=machine(root), **RGB)


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


def test_sorted_val_images_of_tiny_imagenet(tiny_folder: Path) -> None:
    expected = tiny_imagenet(tiny_folder).test
    for label, wnid in enumerate(("n01", "n02")):
        (tiny_folder / "val" / wnid / "images").mkdir(parents=True)
        image = tiny_folder / "val" / "images" / f"val_{label}.JPEG"
        image.rename(tiny_folder / "val" / wnid / "images" / image.name)
    for leftover in ("images", "val_annotations.txt"):
        images = tiny_imagenet(tiny_folder)
        assert images.test.labels.tolist() == [0, 1]
        assert torch.equal(images.test.images, expected.images.flip(0))
        path = tiny_folder / "val" / leftover
        path.rmdir() if path.is_dir() else path.unlink()
    assert tiny_imagenet(tiny_folder).test.labels.tolist() == [0, 1]


def test_blank_lines_and_byte_order_marks(tiny_folder: Path) -> None:
    table = tiny_folder / "val" / "val_annotations.txt"
    table.write_text("\ufeff" + table.read_text().replace("\n", "\r\n") + "\n\n")
    assert tiny_imagenet(tiny_folder).test.labels.tolist() == [1, 0]

"""Boxes and masks of images."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reldrop import data
from reldrop.data import find_regions
from reldrop.data.images.crops import CenterCrop
from reldrop.utils.errors import ReldropError
from tests.helpers.images import machine
from tests.helpers.regions import RGB, Box, folder_data, imagenet_data, make_data, masks, painted, table, write, xml

SIZES = [(64, 48), (31, 90), (300, 211), (40, 40), (12, 17)]  # width and height


BOXES: list[Box] = [(10, 5, 40, 30), (0, 0, 30, 89), (100, 80, 250, 200), (39, 3, 39, 20), (3, 4, 5, 9)]


@pytest.mark.parametrize("interpolation", [None, "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [16, 24, 75])
def test_masks_are_what_decoding_makes_of_boxes_painted_into_the_images(
    tmp_path: Path, size: int, interpolation: str | None
) -> None:
    names = [f"a/{index}.png" for index in range(len(SIZES))]
    files = {name: painted(*pair) for name, *pair in zip(names, SIZES, BOXES, strict=True)}
    if interpolation is None:
        make_data(tmp_path, files)
        images = folder_data(tmp_path, size)
    else:
        write(tmp_path / "some" / "val", files)
        images = imagenet_data(tmp_path, size, interpolation=interpolation)
        assert images.test.reading.frame == CenterCrop(size + 4, interpolation)
    table(tmp_path / "boxes.csv", list(zip(names, BOXES, strict=True)))
    found = masks("boxes.csv", tmp_path, images)
    assert found.dtype == torch.bool
    assert torch.equal(found, images.test.images[:, 0] >= 128)
    assert found.flatten(1).any(1).sum() >= 4


def test_boxes_are_clipped_joined_and_may_be_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = {
        "both": [(0, 0, 3, 3), (20, 10, 27, 40)],
        "clipped": [(-5, -7, 6, 200)],
        "one out": [(5, 5, 9, 9), (28, 0, 30, 3)],
        "right": [(28, 0, 30, 3)],
        "left": [(-9, 0, -1, 3)],
        "single": [(27, 27, 27, 27)],
        "none": [],
    }
    make_data(tmp_path, {f"a/{name}.png": painted((28, 28), *rows) for name, rows in boxes.items()})
    images = folder_data(tmp_path, 28)
    table(tmp_path / "boxes.csv", [(f"{name}.png", box) for name, rows in boxes.items() for box in rows])
    with caplog.at_level(logging.WARNING):
        found = masks("boxes.csv", tmp_path, images)
    assert torch.equal(found, images.test.images[:, 0] > 0)
    counts = {Path(path).stem: int(mask.sum()) for path, mask in zip(images.test.paths, found, strict=True)}
    assert counts == {"both": 160, "clipped": 196, "one out": 25, "right": 0, "left": 0, "single": 1, "none": 0}
    assert [record.message for record in caplog.records if "test on" not in record.message] == [
        "2 images have no box inside of them and no region, the first is left.png"
    ]


def test_masks_are_of_the_paths_asked_for_and_streamed_images_have_the_same(tmp_path: Path) -> None:
    names = [f"a/{index}.png" for index in range(5)]
    files = {name: painted((24, 24), (0, 0, index, 0)) for index, name in enumerate(names)}
    make_data(tmp_path, files)
    table(tmp_path / "boxes.csv", [(name, (0, 0, index, 0)) for index, name in enumerate(names)])
    images = folder_data(tmp_path)
    streamed = data.image_folder(folder="some", size=24, machine=machine(tmp_path, memory_gb=0), **RGB)
    regions = find_regions("boxes.csv", str(tmp_path), images)
    assert regions.source == f"{tmp_path.name}/boxes.csv"
    assert regions.masks([images.test.paths[index] for index in (3, 0)]).sum((1, 2)).tolist() == [4, 1]
    assert regions.masks([]).shape == (0, 24, 24)
    assert torch.equal(masks("boxes.csv", tmp_path, streamed), regions.masks(images.test.paths))


@pytest.mark.parametrize(
    "text",
    [
        "image,x0,y0,x1,y1\n0.png,1,2,3,4\n",
        "\ufeffimage, x0, y0, x1, y1\n\n 0 , 1.2, 1.9, 3, 4\n\n",
        "score\ty1\tx1\ty0\tx0\timage\n0.5\t4\t3\t2\t1\ttest/a/0.png\n",
        'label,image,x0,y0,x1,y1\n"a, b",a/0.jpg,1,2,3,4\nc,elsewhere.png,0,0,9,9\n',
        "image,x0,y0,x1,y1\r\n0.png,1,2,2,4\r\n7.png,1,2,2,9\r\n0.png,3,2,3,4\r\n",
    ],
)
def test_tables_of_boxes(tmp_path: Path, text: str) -> None:
    make_data(tmp_path, {"a/0.png": painted((24, 24))})
    (tmp_path / "boxes.tsv").write_bytes(text.encode())
    expected = torch.zeros(1, 24, 24, dtype=torch.bool)
    expected[0, 2:5, 1:4] = True
    for source in ("boxes.tsv", str(tmp_path / "boxes.tsv")):
        assert torch.equal(masks(source, tmp_path, folder_data(tmp_path)), expected)


def test_xml_of_an_image_that_was_resized(tmp_path: Path) -> None:
    for name, size in (("0", (64, 48)), ("1", (48, 64)), ("2", (50, 50))):
        write(tmp_path / "some" / "val", {f"a/{name}.png": painted(size)})
    xml(tmp_path / "boxes" / "0.xml", (100, 150, 299, 299), (400, 0, 499, 374), size=(500, 375))
    xml(tmp_path / "boxes" / "1.xml", (0, 0, 23, 63), size=(0, 0))
    xml(tmp_path / "boxes" / "2.xml", size=(50, 50))
    images = imagenet_data(tmp_path, 48, eval_resize=48)
    found = masks("boxes", tmp_path, images)
    expected = torch.zeros(3, 48, 48, dtype=torch.bool)
    expected[0, 19:38, 5:30] = True  # 150 to 300 of 375 is 19.2 to 38.4 of 48; 100 to 300 of 500 is 12.8 to 38.4 less 8
    expected[0, :, 43:] = True
    expected[1, :, :24] = True
    assert torch.equal(found, expected)
    xml(
        tmp_path / "boxes" / "0.xml", (0, 152, 499, 374), size=(500, 375)
    )  # from 38.9 of 96, if not from 19.5 of 48 only
    larger = masks("boxes", tmp_path, imagenet_data(tmp_path, 96, eval_resize=96))[0]
    assert larger.all(1).nonzero()[0] == 39
    assert not larger[:39].any()
    xml(tmp_path / "boxes" / "0.xml", (0, 0, 9, 9), size=(375, 500))
    with pytest.raises(ReldropError, match=r"0.xml is of an image of 375 x 500 pixels, but the image has 64 x 48"):
        masks("boxes", tmp_path, images)


def test_masks_of_imagenet_s_and_any_others(tmp_path: Path) -> None:
    classes = np.zeros((20, 30, 3), np.uint8)
    classes[2:8, 3:9] = 919 % 256, 919 // 256, 0
    classes[4:6, 20:29] = 0, 1, 0  # class 256
    classes[12:18, 5:25] = 1000 % 256, 1000 // 256, 0  # ignored
    region = classes @ np.array([1, 256, 0]) % 1000 > 0
    grey = Image.fromarray(region.astype(np.uint8))
    palette = grey.convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # black on white, which is a matter of display only
    alpha = Image.merge(
        "RGBA", [*Image.fromarray(region.astype(np.uint8) * 255).convert("RGB").split(), grey.point(lambda _: 255)]
    )
    variants = {
        "classes": Image.fromarray(classes),
        "grey": grey,
        "bits": Image.fromarray(region),
        "deep": Image.fromarray(region.astype(np.uint16) * 256),
        "palette": palette,
        "alpha": alpha,
        "twice": grey.resize((60, 40), Image.Resampling.NEAREST),
    }
    shown = Image.fromarray(region.astype(np.uint8) * 255).convert("RGB")
    write(tmp_path / "some" / "val", {f"b/{name}.png": shown for name in variants})
    write(tmp_path / "masks", {f"n01/{name}.png": variant for name, variant in variants.items()})
    images = imagenet_data(tmp_path, 20, eval_resize=20)
    found = masks("masks", tmp_path, images)
    assert torch.equal(found, images.test.images[:, 0] >= 128)
    assert found.flatten(1).sum(1).unique().tolist() == [36 - 12 + 10]


def test_names_that_recur_need_their_folders(tmp_path: Path) -> None:
    make_data(tmp_path, {f"{name}/{index}.png": painted((24, 24)) for name in "ab" for index in range(2)})
    table(tmp_path / "boxes.csv", [("b/1.png", (0, 0, 4, 0)), ("a/1.png", (0, 0, 2, 0)), ("c/0.png", (0, 0, 7, 0))])
    images = folder_data(tmp_path)
    assert masks("boxes.csv", tmp_path, images).sum((1, 2)).tolist() == [0, 3, 0, 5]
    few = data.image_folder(
        folder="some", size=24, machine=machine(tmp_path), test_subset=1, **RGB
    )  # one name, but listed twice
    few.test.paths = [str(tmp_path / "some" / "test" / "a" / "1.png")]
    assert masks("boxes.csv", tmp_path, few).sum((1, 2)).tolist() == [3]
    table(tmp_path / "boxes.csv", [("1.png", (0, 0, 4, 0))])
    with pytest.raises(
        ReldropError, match=r"boxes.csv has regions of 1 images, but of none of the 4 test images of some"
    ):
        masks("boxes.csv", tmp_path, images)

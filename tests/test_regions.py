"""Regions of interest: metrics of relevance in them, and the boxes and masks that they come from."""

import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reldrop import data
from reldrop.data import ImageData, Regions, find_regions
from reldrop.data.framing import CentreCrop
from reldrop.errors import ReldropError
from reldrop.metrics import region_metrics, spread

RGB = {"mean": [0.5] * 3, "std": [0.25] * 3}
Box = tuple[int, int, int, int]

# ---- metrics ----------------------------------------------------------------------------------------------------------


def values(figures: dict[str, Tensor]) -> dict[str, list[float]]:
    assert all(figure.dtype == torch.float64 for figure in figures.values())
    return {name: figure.tolist() for name, figure in figures.items()}


def test_metrics_of_a_hand_worked_image() -> None:
    relevance = torch.tensor([[[4.0, 1.0, -8.0], [3.0, 0.0, 2.0]]])
    region = torch.tensor([[[True, True, False], [False, False, True]]])
    # the three most relevant are 4, 3 and 2, two of them inside; positive are 10, of which 7 inside, on half of the area
    assert values(region_metrics(relevance, region)) == {
        "rank_accuracy": [2 / 3],
        "mass_accuracy": [0.7],
        "pointing_game": [1.0],
        "relevance_per_area": [1.4],
        "area": [0.5],
    }
    outside = values(region_metrics(relevance, ~region))
    assert (outside["rank_accuracy"], outside["mass_accuracy"], outside["pointing_game"]) == ([1 / 3], [0.3], [0.0])


def test_spread_of_a_hand_worked_cloud() -> None:
    figures = values(spread(torch.tensor([[2.0, -1.0, 0.0, 1.0]])))
    # ascending 0 1 1 2 with weights -3 -1 1 3, by 4 times their sum; entropy of 1/2 1/4 1/4 is 1.5 log 2
    assert figures["gini"] == [6 / 16]
    assert figures["effective_features"] == pytest.approx([2**1.5], rel=1e-15)
    assert figures["effective_share"] == pytest.approx([2**1.5 / 4], rel=1e-15)


def test_ties_count_as_the_mean_over_all_orders() -> None:
    relevance = torch.tensor([[5.0, 5.0, 1.0, 1.0, 1.0, 0.0]])
    region = torch.tensor([[False, True, True, False, True, False]])
    figures = values(region_metrics(relevance, region))
    # of the three most relevant, one is the 5 inside, and the third is one of the 1s, two of three inside
    assert figures["rank_accuracy"] == pytest.approx([(1 + 2 / 3) / 3])
    assert figures["pointing_game"] == [0.5]
    assert values(region_metrics(torch.zeros(1, 6), region))["rank_accuracy"] == [0.5]


@pytest.mark.parametrize("size", [(7,), (6, 5)])
@pytest.mark.parametrize("levels", [3, 1000])
def test_metrics_equal_a_plain_transcription(size: tuple[int, ...], levels: int) -> None:
    draws = torch.Generator().manual_seed(0)
    relevance = torch.randint(-levels // 2, levels // 2 + 1, (50, *size), generator=draws).float()
    region = torch.rand(50, *size, generator=draws) < torch.rand(50, *([1] * len(size)), generator=draws)
    figures = region_metrics(relevance, region) | spread(relevance)
    for index in range(50):
        expected = plain_metrics(relevance[index].flatten().tolist(), region[index].flatten().tolist())
        assert figures.keys() == expected.keys()
        for name, value in expected.items():
            assert figures[name][index].item() == pytest.approx(value, rel=1e-12, nan_ok=True), name


def plain_metrics(relevance: list[float], region: list[bool]) -> dict[str, float]:
    count, inside = len(relevance), sum(region)
    mass = ratio(
        sum(value for value, own in zip(relevance, region, strict=True) if own and value > 0),
        sum(value for value in relevance if value > 0),
    )
    total = sum(map(abs, relevance))
    shares = sorted(abs(value) / total for value in relevance) if total else [math.nan] * count
    effective = math.exp(-sum(share * math.log(share) for share in shares if share))
    differences = sum(abs(one - other) for one in shares for other in shares)
    return {
        "rank_accuracy": top(relevance, region, inside),
        "mass_accuracy": mass if inside else math.nan,
        "pointing_game": top(relevance, region, 1) if inside else math.nan,
        "relevance_per_area": mass * count / inside if inside else math.nan,
        "area": inside / count if inside else math.nan,
        "gini": differences / (2 * count),  # the definition: half the mean difference by the mean
        "effective_features": effective,
        "effective_share": effective / count,
    }


def top(relevance: list[float], region: list[bool], count: int) -> float:
    """Fill `count` places by descending relevance, those of equal relevance to equal parts."""
    hits, places = 0.0, count
    for level in sorted(set(relevance), reverse=True):
        group = [own for value, own in zip(relevance, region, strict=True) if value == level]
        taken = min(places, len(group))
        hits += taken * sum(group) / len(group)
        places -= taken
    return ratio(hits, count)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def test_closed_forms() -> None:
    count = 64
    even, single = torch.full((1, 8, 8), 0.25), torch.zeros(1, 8, 8)
    single[0, 2, 3] = -5
    assert values(spread(even))["gini"] == pytest.approx([0], abs=1e-15)
    assert values(spread(even))["effective_features"] == pytest.approx([count])
    assert values(spread(even))["effective_share"] == pytest.approx([1])
    assert values(spread(single)) == {
        "gini": [1 - 1 / count],
        "effective_features": [1.0],
        "effective_share": [1 / count],
    }
    everything = region_metrics(torch.rand(3, 8, 8) + 0.1, torch.ones(3, 8, 8, dtype=torch.bool))
    assert all(figure == pytest.approx([1.0] * 3) for figure in values(everything).values())
    region = torch.zeros(1, 8, 8, dtype=torch.bool)
    region[0, :4, :2] = True
    assert values(region_metrics(even, region)) == {
        "rank_accuracy": [1 / 8],
        "mass_accuracy": [1 / 8],
        "pointing_game": [1 / 8],
        "relevance_per_area": [1.0],
        "area": [1 / 8],
    }


def test_what_is_undefined_is_not_a_number() -> None:
    relevance = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [1.0, math.nan], [math.inf, 1.0]])
    region = torch.tensor([[False, False], [True, False], [True, False], [True, False], [True, False]])
    figures = region_metrics(relevance, region)
    for name, figure in figures.items():
        positive = name in ("mass_accuracy", "relevance_per_area")
        assert figure.isnan().tolist() == [True, positive, positive, True, True], name
    assert figures["pointing_game"][1:3].tolist() == [1.0, 0.5]
    for figure in spread(relevance).values():
        assert figure.isnan().tolist() == [False, False, True, True, True]


def test_a_sample_does_not_depend_on_its_batch() -> None:
    draws = torch.Generator().manual_seed(1)
    relevance = torch.randn(9, 6, 5, generator=draws).round(decimals=1)
    region = torch.rand(9, 6, 5, generator=draws) < 0.3
    whole = region_metrics(relevance, region) | spread(relevance)
    for index in range(9):
        alone = region_metrics(relevance[[index]], region[[index]]) | spread(relevance[[index]])
        for name, figure in alone.items():
            assert figure.item() == pytest.approx(whole[name][index].item(), rel=1e-14)


# ---- boxes and masks of images ----------------------------------------------------------------------------------------

SIZES = [(64, 48), (31, 90), (300, 211), (40, 40), (12, 17)]  # width and height
BOXES: list[Box] = [(10, 5, 40, 30), (0, 0, 30, 89), (100, 80, 250, 200), (39, 3, 39, 20), (3, 4, 5, 9)]


def painted(size: tuple[int, int], *boxes: Box) -> Image.Image:
    """White boxes on black, a pixel at a time as the format says."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        for y in range(max(y0, 0), min(y1, size[1] - 1) + 1):
            for x in range(max(x0, 0), min(x1, size[0] - 1) + 1):
                pixels[y, x] = 255
    return Image.fromarray(pixels)


def write(folder: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def make_data(root: Path, images: dict[str, Image.Image], base: str = "some", test: str = "test") -> Path:
    """Test images, beside two to train on."""
    write(root / base / "train", {f"{name}/{index}.png": Image.new("RGB", (8, 8)) for name in "ab" for index in "01"})
    return write(root / base / test, images)


def folder_data(root: Path, size: int = 24, base: str = "some") -> ImageData:
    return data.image_folder(root=str(root), folder=base, size=size, workers=0, **RGB)


def imagenet_data(root: Path, size: int = 24, base: str = "some", **settings: Any) -> ImageData:
    defaults = {"name": "imagenet", "size": size, "eval_resize": size + 4, "workers": 0, "train_split": "val", **RGB}
    return data.imagenet(root=str(root), folders=[base], **{**defaults, **settings})


def masks(source: str | None, root: Path, images: ImageData) -> Tensor:
    regions = find_regions(source, str(root), images)
    assert isinstance(regions, Regions)
    return regions.masks(images.test.paths)


def table(file: Path, rows: list[tuple[str, Box]], separator: str = ",") -> Path:
    lines = [("image", "x0", "y0", "x1", "y1"), *((name, *map(str, box)) for name, box in rows)]
    file.write_text("".join(separator.join(line) + "\n" for line in lines))
    return file


def xml(file: Path, *boxes: Box, size: tuple[int, int] | None = None) -> Path:
    """As in ILSVRC2012_bbox_val_v3.tgz."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = ""
    for box in boxes:
        values = "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        objects += f"<object><name>n01</name><bndbox>{values}</bndbox></object>"
    stated = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><filename>{file.stem}</filename>{stated}<segmented>0</segmented>{objects}</annotation>"
    )
    return file


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
        assert images.test.reading.frame == CentreCrop(size + 4, interpolation)
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
    assert [record.message for record in caplog.records] == [
        "2 images have no box inside of them and no region, the first is left.png"
    ]


def test_masks_are_of_the_paths_asked_for_and_streamed_images_have_the_same(tmp_path: Path) -> None:
    names = [f"a/{index}.png" for index in range(5)]
    files = {name: painted((24, 24), (0, 0, index, 0)) for index, name in enumerate(names)}
    make_data(tmp_path, files)
    table(tmp_path / "boxes.csv", [(name, (0, 0, index, 0)) for index, name in enumerate(names)])
    images = folder_data(tmp_path)
    streamed = data.image_folder(str(tmp_path), "some", 24, workers=0, memory_limit_gb=0, **RGB)
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
    few = data.image_folder(str(tmp_path), "some", 24, workers=0, test_subset=1, **RGB)  # one name, but listed twice
    few.test.paths = [str(tmp_path / "some" / "test" / "a" / "1.png")]
    assert masks("boxes.csv", tmp_path, few).sum((1, 2)).tolist() == [3]
    table(tmp_path / "boxes.csv", [("1.png", (0, 0, 4, 0))])
    with pytest.raises(
        ReldropError, match=r"boxes.csv has regions of 1 images, but of none of the 4 test images of some"
    ):
        masks("boxes.csv", tmp_path, images)


# ---- what lies beside the images --------------------------------------------------------------------------------------


def test_boxes_of_tiny_imagenet(tmp_path: Path) -> None:
    base = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        write(base / "train" / wnid / "images", {f"{wnid}_{index}.png": painted((64, 64)) for index in range(2)})
    write(
        base / "val" / "images", {f"val_{index}.png": painted((64, 64), (0, 10 * index, 62, 63)) for index in range(2)}
    )
    annotations = "val_1.png\tn02\t0\t10\t62\t63\nval_0.png\tn01\t0\t0\t62\t63\n"
    (base / "val" / "val_annotations.txt").write_text(annotations)
    images = data.tiny_imagenet(root=str(tmp_path), folders=["tiny-imagenet-200"], name="tiny", workers=0, **RGB)
    for source in ("auto", "tiny-imagenet-200/val/val_annotations.txt"):
        found = masks(source, tmp_path, images)
        assert torch.equal(found, images.test.images[:, 0] >= 128)
        assert found.sum((1, 2)).tolist() == [63 * 54, 63 * 64]
    (base / "val" / "val_annotations.txt").write_text("val_0.png\tn01\n")
    with pytest.raises(ReldropError, match=r"val_annotations.txt, line 1: 2 of 6 columns; it needs image, class, x0"):
        masks("auto", tmp_path, images)


@pytest.mark.parametrize("folder", ["", "n01/"])
@pytest.mark.parametrize(
    ("base", "place"),
    [
        ("ILSVRC/Data/CLS-LOC", "ILSVRC/Annotations/CLS-LOC/val"),
        ("imagenet", "imagenet/ILSVRC2012_bbox_val_v3/val"),
        ("imagenet", "ILSVRC2012_bbox_val_v3"),
        ("imagenet", "imagenet/val"),
    ],
)
def test_boxes_of_ilsvrc(tmp_path: Path, base: str, place: str, folder: str) -> None:
    names = [f"ILSVRC2012_val_{index:08}" for index in (1, 2, 3)]
    write(tmp_path / base / "val", {f"{folder}{name}.JPEG": painted((40, 30)) for name in names})
    (tmp_path / base / "imagenet_2012_validation_synset_labels.txt").write_text("n01\n" * 3)
    for count, name in enumerate(names[:2], 1):
        xml(tmp_path / place / f"{name}.xml", (5, 0, 14 + 10 * count, 29), size=(40, 30))
    xml(tmp_path / place / "ILSVRC2012_val_00050000.xml", (5, 0, 14, 29), size=(40, 30))
    images = imagenet_data(tmp_path, 30, base, eval_resize=30)
    found = masks("auto", tmp_path, images)
    assert found.sum((1, 2)).tolist() == [30 * 20, 30 * 30, 0]


def test_masks_of_imagenet_s(tmp_path: Path) -> None:
    base = "ImageNetS50"
    make_data(tmp_path, {"a/ILSVRC2012_val_00000001.JPEG": painted((40, 40))}, base, "validation")
    mask = painted((40, 40), (0, 0, 39, 9))
    write(tmp_path / base / "validation-segmentation", {"a/ILSVRC2012_val_00000001.png": mask})
    assert masks("auto", tmp_path, folder_data(tmp_path, 40, base)).sum((1, 2)).tolist() == [400]


def test_where_there_are_none(tmp_path: Path) -> None:
    make_data(tmp_path, {"a/0.png": painted((24, 24))}, test="val")
    images = folder_data(tmp_path)
    assert find_regions("auto", str(tmp_path), images) is None
    assert find_regions(None, str(tmp_path), images) is None
    xml(tmp_path / "some" / "val" / "another.xml", (0, 0, 1, 1))
    assert find_regions("auto", str(tmp_path), images) is None
    digits = data.digits("digits", [0.3], [0.4])
    assert find_regions("auto", str(tmp_path), digits) is None
    with pytest.raises(
        ReldropError, match=r"suite.regions=boxes.csv needs image files, which the images of digits do not"
    ):
        find_regions("boxes.csv", str(tmp_path), digits)


# ---- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column image; the first line must name the columns image, x0, y0, x1 and y1"),
        ("0.png,1,2,3,4\n", "line 1: no column image"),
        ("image,x0,y0,x1\n0.png,1,2,3\n", "line 1: no column y1"),
        ("image,x0,y0,x1,y1\n\n0.png,1,2,3\n", "line 3: 4 of 5 columns; it needs image, x0, y0, x1, y1"),
        ("image,x0,y0,x1,y1\n0.png,1,2,3,x\n", "line 2: 1 2 3 x is no box; it needs the numbers x0 y0 x1 y1"),
        ("image,x0,y0,x1,y1\n0.png,1,2,3,inf\n", "line 2: 1 2 3 inf is no box"),
        ("image,x0,y0,x1,y1\n0.png,1,2,3,nan\n", "line 2: 1 2 3 nan is no box"),
        ("image,x0,y0,x1,y1\n0.png,1,2,0,4\n", "line 2: 1 2 0 4 is no box; .* x0 up to x1, y0 up to y1"),
        ('image,x0,y0,x1,y1\n"0.png,1,2,3,4\n' + "7.png,1,2,3,4\n" * 20000, "field larger than field limit"),
        ("image,x0,y0,x1,y1\n0.png,1,2,3,1\n", "line 2: 1 2 3 1 is no box"),
        (
            "image,x0,y0,x1,y1\n7.png,1,2,3,4\n",
            r"regions of 1 images, but of none of the 1 test images of some \(0.png",
        ),
    ],
)
def test_mistakes_in_tables_are_explained(tmp_path: Path, text: str, message: str) -> None:
    make_data(tmp_path, {"a/0.png": painted((24, 24))})
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(ReldropError, match=f"{tmp_path}/boxes.csv(,| has|:) {message}"):
        find_regions("boxes.csv", str(tmp_path), folder_data(tmp_path))


def test_mistakes_in_other_sources_are_explained(tmp_path: Path) -> None:
    make_data(tmp_path, {"a/0.png": painted((24, 20))})
    images = folder_data(tmp_path)
    with pytest.raises(
        ReldropError, match=rf"suite.regions=none.csv not found: {tmp_path}/none.csv does not exist; name a"
    ):
        find_regions("none.csv", str(tmp_path), images)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReldropError, match=r"empty has neither XML files of boxes nor PNG files of masks"):
        find_regions("empty", str(tmp_path), images)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ReldropError, match=r"cannot read .*bytes.csv"):
        find_regions("bytes.csv", str(tmp_path), images)
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "0.xml").write_text("<annotation><object>")
    with pytest.raises(ReldropError, match=r"cannot read .*xml/0.xml: .*; mend or remove it"):
        find_regions("xml", str(tmp_path), images)
    text = "<annotation><object><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax></bndbox></object></annotation>"
    (tmp_path / "xml" / "0.xml").write_text(text)
    with pytest.raises(ReldropError, match=r"xml/0.xml, box 1: 1 2 3  is no box"):
        find_regions("xml", str(tmp_path), images)
    write(tmp_path / "masks", {"0.png": Image.new("L", (20, 24))})
    with pytest.raises(ReldropError, match=r"masks/0.png is of an image of 20 x 24 pixels, but the image has 24 x 20"):
        masks("masks", tmp_path, images)
    (tmp_path / "masks" / "0.png").write_bytes(b"no image")
    with pytest.raises(ReldropError, match=r"cannot decode mask .*masks/0.png: .*; replace or remove it"):
        masks("masks", tmp_path, images)


def test_an_image_that_is_skipped_stops_nothing(tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_{index:08}" for index in range(3)]
    write(tmp_path / "some" / "val", {f"n01/{name}.png": painted((24, 24), (0, 0, 9, 9)) for name in names})
    (tmp_path / "some" / "val" / "n01" / f"{names[0]}.png").write_bytes(b"")
    table(tmp_path / "boxes.csv", [(name, (0, 0, 9, 9)) for name in names])
    images = imagenet_data(tmp_path, corrupt="skip", eval_resize=24, memory_limit_gb=0)
    regions = find_regions("boxes.csv", str(tmp_path), images)
    ((inputs, _, indices),) = images.eval_items("test", batch_size=3)
    found = regions.masks([images.test.paths[index] for index in indices.tolist()])
    assert torch.equal(found, inputs[:, 0] > 0)
    assert found.sum() == 200
    with pytest.raises(ReldropError, match=r"cannot decode image .*val_00000000.png"):
        regions.masks(images.test.paths)


def test_real_boxes() -> None:
    root = os.environ.get("RELDROP_DATA", "")
    try:
        images = data.tiny_imagenet(
            root=root, folders=["tiny-imagenet-25"], name="tiny", subset=25, test_subset=200, **RGB
        )
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip("the environment variable RELDROP_DATA leads to no tiny-imagenet-25")
    found = masks("auto", Path(root), images)
    rows = {}
    for line in (Path(root) / "tiny-imagenet-25" / "val" / "val_annotations.txt").read_text().splitlines():
        name, _, *box = line.split()
        rows[name] = [int(value) for value in box]
    for path, mask in zip(images.test.paths, found, strict=True):
        x0, y0, x1, y1 = rows[Path(path).name]
        assert mask[y0 : y1 + 1, x0 : x1 + 1].all()
        assert mask.sum() == (y1 - y0 + 1) * (x1 - x0 + 1)

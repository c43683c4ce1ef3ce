"""Files of annotations."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from reldrop import data
from reldrop.data import find_regions
from reldrop.utils.errors import ReldropError
from tests.helpers.images import machine
from tests.helpers.regions import RGB, folder_data, imagenet_data, make_data, masks, painted, table, write, xml

# ---- files of annotations ------------------------------------------------------------------------------------------


def test_boxes_of_tiny_imagenet(tmp_path: Path) -> None:
    base = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        write(base / "train" / wnid / "images", {f"{wnid}_{index}.png": painted((64, 64)) for index in range(2)})
    write(
        base / "val" / "images", {f"val_{index}.png": painted((64, 64), (0, 10 * index, 62, 63)) for index in range(2)}
    )
    annotations = "val_1.png\tn02\t0\t10\t62\t63\nval_0.png\tn01\t0\t0\t62\t63\n"
    (base / "val" / "val_annotations.txt").write_text(annotations)
    images = data.tiny_imagenet(folders=["tiny-imagenet-200"], machine=machine(tmp_path), **RGB)
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
    digits = data.digits(mean=[0.3], std=[0.4])
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
    with pytest.raises(ReldropError, match=r"cannot read .*xml/0.xml: .*; fix or remove it"):
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
    images = imagenet_data(tmp_path, on_decode_error="skip", eval_resize=24, memory_gb=0)
    regions = find_regions("boxes.csv", str(tmp_path), images)
    ((inputs, _, indices, *_),) = images.eval_batches("test", batch_size=3)
    found = regions.masks([images.test.paths[index] for index in indices.tolist()])
    assert torch.equal(found, inputs[:, 0] > 0)
    assert found.sum() == 200
    with pytest.raises(ReldropError, match=r"cannot decode image .*val_00000000.png"):
        regions.masks(images.test.paths)


def test_real_boxes() -> None:
    root = os.environ.get("RELDROP_DATA", "")
    try:
        images = data.tiny_imagenet(
            folders=["tiny-imagenet-25"], machine=machine(Path(root)), subset=25, test_subset=200, **RGB
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

"""Metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reldrop import data
from reldrop.data import ImageData, Regions, find_regions
from tests.helpers.images import machine

RGB = {"mean": [0.5] * 3, "std": [0.25] * 3}


Box = tuple[int, int, int, int]


def values(figures: dict[str, Tensor]) -> dict[str, list[float]]:
    assert all(figure.dtype == torch.float64 for figure in figures.values())
    return {name: figure.tolist() for name, figure in figures.items()}


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
    return data.image_folder(folder=base, size=size, machine=machine(root), **RGB)


def imagenet_data(root: Path, size: int = 24, base: str = "some", memory_gb: float = 8, **settings: Any) -> ImageData:
    defaults = {"name": "imagenet", "size": size, "eval_resize": size + 4, "train_split": "val", **RGB}
    return data.imagenet(folders=[base], machine=machine(root, memory_gb=memory_gb), **{**defaults, **settings})


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

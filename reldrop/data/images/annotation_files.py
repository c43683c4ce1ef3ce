"""Files that say where the object of an image is: boxes in tables or XML, and masks.

A table has a header with the columns image, x0, y0, x1 and y1, separated by commas or tabs; others are ignored. Each
line is a box of an image file, which may have several: its leftmost, topmost, rightmost and bottommost pixel, counted from
0, the last ones part of the box. val_annotations.txt of Tiny-ImageNet, which has no header, says the same.

XML is that of ILSVRC and of Pascal VOC, a file for each image, whose indices are taken likewise. Masks are PNG files, one for
each image, with 0 outside of the region: of ImageNet-S, where pixels are numbers of classes, R + 256 G, and 1000 those to be
ignored (github.com/LUSSeg/ImageNet-S), or any others.

Boxes in XML and masks may be of the image before it was resized as a whole.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from reldrop.data.images.crops import Box
from reldrop.data.images.decoding import open_image
from reldrop.data.images.folders import SUFFIXES
from reldrop.utils.errors import ReldropError

Key = tuple[str, ...]  # parts of the path of an image, without suffix
Size = tuple[int, int]  # width and height, in pixels

COLUMNS = ("image", "x0", "y0", "x1", "y1")
TINY_IMAGENET = ("val_annotations.txt", ["image", "class", "x0", "y0", "x1", "y1"])
IGNORED = (1000 % 256, 1000 // 256, 0)  # of ImageNet-S


@dataclass(frozen=True)
class Annotation:
    """Where the object of one image is: in `boxes`, or where the mask in `file` is not 0.

    `size` is that of the image which the boxes are of; None for that of the image's own file.
    """

    file: Path
    boxes: tuple[Box, ...] | None = None
    size: Size | None = None

    def draw(self, size: Size) -> Image.Image:
        """Return the region in white on black, for an image file of `size`.

        Raises:
            ReldropError: it is of an image of another shape, or the mask cannot be decoded.
        """
        region = Image.new("L", self.size or size) if self.boxes is not None else self._mask()
        for box in self.boxes or ():
            region.paste(255, box)
        if region.size == size:
            return region
        (width, height), (across, down) = region.size, size
        if abs(width * down - height * across) > width + height:  # more than from rounding both sides
            raise ReldropError(
                f"{self.file} is of an image of {width} x {height} pixels, but the image has {across} x {down}, "
                "another shape"
            )
        return region.resize(size, Image.Resampling.BOX)

    def _mask(self) -> Image.Image:
        with open_image(self.file, "mask") as image:
            pixels = np.asarray(image.convert({"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode)))
        region = pixels != 0 if pixels.ndim == 2 else pixels.any(2) & (pixels != IGNORED).any(2)
        return Image.fromarray(region.astype(np.uint8) * 255)


def image_key(name: str | PurePath) -> Key:
    """Return what tells an image from others, by its path and that of its annotation alike."""
    path = PurePath(name)
    return (*path.parts[:-1], path.stem if path.suffix.lower() in (*SUFFIXES, ".xml") else path.name)


def read_table(file: Path) -> dict[Key, Annotation]:
    """Return the boxes of each image in a table.

    Raises:
        ReldropError: it cannot be read, or a line is no box.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        reader = csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
        rows = [(f"{file}, line {reader.line_num}", row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReldropError(f"cannot read {file}: {error}") from error
    known, header = TINY_IMAGENET
    if file.name != known:
        header = [name.strip() for name in rows.pop(0)[1]] if rows else []
        if missing := [name for name in COLUMNS if name not in header]:
            raise ReldropError(
                f"{file}, line 1: no column {missing[0]}; the first line must name the columns image, x0, y0, x1 and "
                "y1, separated by commas or tabs"
            )
    image, *corners = (header.index(name) for name in COLUMNS)
    boxes = defaultdict(list)
    for where, row in rows:
        if len(row) <= max(image, *corners):
            raise ReldropError(f"{where}: {len(row)} of {len(header)} columns; it needs {', '.join(header)}")
        boxes[image_key(row[image].strip())].append(_box([row[corner] for corner in corners], where))
    return {key: Annotation(file, tuple(found)) for key, found in boxes.items()}


def read_xml(file: Path) -> Annotation:
    """Return the boxes of an image.

    Raises:
        ReldropError: the file cannot be read, or one is no box.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ReldropError(f"cannot read {file}: {error}; fix or remove it") from error
    boxes = tuple(
        _box([box.findtext(corner, "") for corner in ("xmin", "ymin", "xmax", "ymax")], f"{file}, box {number}")
        for number, box in enumerate(root.iter("bndbox"), 1)
    )
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    stated = all(side.isdecimal() and int(side) for side in sides)  # some tools leave it out or write 0
    return Annotation(file, boxes, (int(sides[0]), int(sides[1])) if stated else None)


def _box(values: Sequence[str], where: str) -> Box:
    try:
        left, top, right, bottom = (round(float(value)) for value in values)
    except (ValueError, OverflowError):
        left, top, right, bottom = 0, 0, -1, -1
    if right < left or bottom < top:
        raise ReldropError(
            f"{where}: {' '.join(values)} is no box; it needs the numbers x0 y0 x1 y1 in pixels, x0 up to x1, y0 up to y1"
        )
    return left, top, right + 1, bottom + 1

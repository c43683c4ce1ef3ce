"""Regions of interest in the test images, as a network sees them: where their objects are, for metrics of relevance."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reldrop.data.images.annotation_files import Annotation, Key, Size, image_key, read_table, read_xml
from reldrop.data.images.crops import CropFn
from reldrop.data.images.dataset import ImageData
from reldrop.data.images.decoding import open_image
from reldrop.data.paths import candidates, files_below
from reldrop.utils.errors import ReldropError

logger = logging.getLogger("reldrop")

# Known annotations of data sets: a table, or files in a folder, relative to a folder that the images are below.
KNOWN = (
    ("val_annotations.txt", None),  # Tiny-ImageNet
    ("Annotations/CLS-LOC/val", ".xml"),  # ILSVRC since 2014, and as it is on Kaggle
    ("ILSVRC2012_bbox_val_v3", ".xml"),  # its archive of 2012, unpacked in a folder of its own
    ("val", ".xml"),  # or among the images
    ("validation-segmentation", ".png"),  # ImageNet-S
)
LEVELS = 5  # of folders: of ILSVRC/Data/CLS-LOC/val/WNID, the first has the annotations


@dataclass(frozen=True)
class Regions:
    """The regions of interest of a data set's test images.

    Attributes:
        source: where they were read from, for reports.
        size: side of an image as the network sees it, in pixels.
        frame: how the files become such images.
        annotations: of the files that have a region, by their paths.
    """

    source: str
    size: int
    frame: CropFn
    annotations: Mapping[str, Annotation]

    def masks(self, paths: Sequence[str]) -> Tensor:
        """Return which pixels of images belong to their regions, after all that evaluation does to images.

        Args:
            paths: n of the test split's files.

        Returns:
            bool (n, S, S) on the CPU: the pixels at least half of which show the region; none where an image has none.

        Raises:
            ReldropError: an image or a mask cannot be read, or they differ in shape.
        """
        masks = np.zeros((len(paths), self.size, self.size), dtype=bool)
        for mask, path in zip(masks, paths, strict=True):
            if path in self.annotations:
                # The drawn region is cropped by the same function as the image, so that no geometry is written twice.
                region = self.annotations[path].draw(_size(path))
                mask[:] = np.asarray(self.frame(region, self.size))[..., 0] >= 128
        return torch.from_numpy(masks)


def find_regions(source: str | None, root: str, data: ImageData) -> Regions | None:
    """Find the regions of interest of the test images of `data`.

    Regions belong to images of the same name, suffixes aside; where names recur, so must as many of their folders as tell
    all images apart. Regions of other images are ignored.

    Args:
        source: a table of boxes, a folder of XML files or one of masks, see `reldrop.data.images.annotation_files`, absolute or
            relative to `root`; "auto" for the known annotations near the images; None for none.
        root: folder of the data sets.
        data: whose images.

    Returns:
        None where `source` is None, or "auto" finds nothing.

    Raises:
        ReldropError: the source is not found, cannot be read, or has no region of these images.
    """
    paths, auto = data.test.paths, source == "auto"
    if source is None or (auto and paths is None):
        return None
    if paths is None:
        raise ReldropError(
            f"suite.regions={source} needs image files, which the images of {data.name} do not come from"
        )
    (place,) = [_beside(paths)] if auto else candidates(root, [source])
    if place is None:
        return None
    if not place.exists():
        raise ReldropError(
            f"suite.regions={source} not found: {place} does not exist; name a table of boxes or a folder of XML files or "
            "masks, absolute or relative to data_dir"
        )
    listed = read_table(place) if place.is_file() else _files(place)
    found = _matched(listed, paths)
    if not found and auto:
        return None
    if not found:
        raise ReldropError(
            f"{place} has regions of {len(listed)} images, but of none of the {len(paths)} test images of {data.name} "
            f"({Path(paths[0]).name}, ...); they must have the same names"
        )
    annotations = {path: _read(listed[key]) for path, key in found.items()}
    if outside := [Path(path).name for path, annotation in annotations.items() if _is_outside(annotation, path)]:
        logger.warning("%d images have no box inside of them and no region, the first is %s", len(outside), outside[0])
    return Regions("/".join(place.resolve().parts[-2:]), data.size, data.test.reading.frame, annotations)


def _beside(paths: Sequence[str]) -> Path | None:
    """Return the first of the known annotations in a folder that the images are below."""
    folder = Path(os.path.commonpath([Path(path).parent for path in paths]))
    for above in (folder, *folder.parents)[:LEVELS]:
        for name, suffix in KNOWN:
            place = above / name
            if place.is_file() if suffix is None else place.is_dir() and files_below(place, (suffix,)):
                return place
    return None


def _files(folder: Path) -> dict[Key, Path]:
    files = files_below(folder, (".xml",)) or files_below(folder, (".png",))
    if not files:
        raise ReldropError(
            f"{folder} has neither XML files of boxes nor PNG files of masks; name a folder that has some"
        )
    return {image_key(Path(file).relative_to(folder)): Path(file) for file in files}


def _matched(listed: Collection[Key], paths: Sequence[str]) -> dict[str, Key]:
    """Return which of the listed images each path is, of those that are listed."""
    keys = {path: image_key(path) for path in paths}
    parts = 1  # of the paths, from the end, that tell all apart
    for images in (set(keys.values()), listed):
        while len({key[-parts:] for key in images}) < len(images):
            parts += 1
    by_end = {key[-parts:]: key for key in listed}
    return {path: by_end[key[-parts:]] for path, key in keys.items() if key[-parts:] in by_end}


def _read(entry: Annotation | Path) -> Annotation:
    if isinstance(entry, Annotation):
        return entry
    return read_xml(entry) if entry.suffix.lower() == ".xml" else Annotation(entry)


def _is_outside(annotation: Annotation, path: str) -> bool:
    """Whether no pixel of an image is in one of the boxes of its annotation."""
    with suppress(ReldropError):  # evaluation skips the image or names it
        if annotation.boxes is not None:
            width, height = annotation.size or _size(path)
            return not any(
                left < width and top < height and right > 0 and bottom > 0
                for left, top, right, bottom in annotation.boxes
            )
    return False


def _size(path: str) -> Size:
    with open_image(path) as image:
        return image.size

"""ImageNet-1k and choices of its classes, in any of the layouts it is passed on in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch

from reldrop.data.images.crops import CenterCrop, RandomResizedCrop
from reldrop.data.images.dataset import ImageData
from reldrop.data.images.decoding import DecodeOptions
from reldrop.data.images.folders import Files, class_names, flat_images, image_files, read_files
from reldrop.data.images.imagenet_labels import read_wnids, val_wnids
from reldrop.data.paths import WHERE_ELSE, candidates, described, first, listed
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import (
    Count,
    FractionBelowOne,
    NonNegative,
    Positive,
    PositiveFraction,
    Two,
    WholeNumber,
    checked,
)


@checked
def imagenet(
    root: str,
    folders: Sequence[str],
    name: str,
    mean: Sequence[float],
    std: Sequence[Positive],
    size: Count = 224,
    eval_resize: Count = 256,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    crop_scale: Annotated[Sequence[PositiveFraction], Two] | None = (0.08, 1.0),
    crop_ratio: Annotated[Sequence[Positive], Two] = (3 / 4, 4 / 3),
    flip: bool = True,
    classes: Sequence[str] | str | None = None,
    train_split: Literal["train", "val"] = "train",
    val_labels: str | None = None,
    synset_ids: str | None = None,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    on_decode_error: Literal["error", "skip"] = "error",
    memory_limit_gb: NonNegative = 4.0,
    workers: WholeNumber = 8,
) -> ImageData:
    """Read ImageNet from `train`/WNID/** and `val`/WNID/** or `val`/*.JPEG; the val images are the test split.

    Training sees random crops, resized, and evaluation the center. The parameters not explained here are those of
    `reldrop.data.images.datasets`.

    Args:
        folders: where to look, relative to `root`, in this order.
        size: side of the square images, in pixels.
        eval_resize: what the short side is resized to before the center is cropped, in pixels.
        interpolation: bilinear or bicubic.
        crop_scale: least and largest share of an image's area that a random crop takes; None trains on center crops.
        crop_ratio: least and largest ratio of width to height of a random crop.
        classes: WNIDs, or a file with one a line (relative to `root`, or absolute); None for all there are. Labels are
            their positions in alphabetical order.
        train_split: folder of the training images, train or val. val trains on the test images, where there are no
            others to try things out on.
        val_labels: the labels of a flat val folder, see `reldrop.data.images.imagenet_labels`; None for a known name.
        synset_ids: the file that says which WNID an ILSVRC id is; None for a known name.
        on_decode_error: "error" stops at a file that cannot be decoded, "skip" does without it, see `DecodeOptions`.
        memory_limit_gb: above this size, in 1e9 bytes, test and validation images, and center crops to train on, are
            not kept in memory but decoded when used, as random crops, and where files are skipped, are always.
        workers: processes that decode what is not in memory.
    """
    reading = _reading(size, eval_resize, interpolation, crop_scale, crop_ratio, on_decode_error)
    base = _find(root, folders, train_split)
    wanted = None if classes is None else _wanted(classes, root)
    places = [base, Path(root).expanduser()]
    test = _list(base / "val", wanted, places, val_labels, synset_ids)
    train = test if train_split == "val" else _list_folders(base / "train", wanted)
    chosen = tuple(sorted(set(train.wnids) if wanted is None else wanted))
    if absent := sorted(set(chosen) - set(train.wnids)):
        raise ReldropError(f"classes={absent[0]} has no images in {base / train_split}")
    return read_files(
        train.files(chosen),
        test.files(chosen),
        size=size,
        subset=subset,
        test_subset=test_subset,
        validation=validation,
        memory_limit_gb=memory_limit_gb,
        workers=workers,
        reading=reading,
        name=name,
        classes=chosen,
        mean=mean,
        std=std,
        source=described("image files", base),
        flip=flip,
    )


@dataclass(frozen=True)
class _Listing:
    """The images of one split, and the WNID of each."""

    folder: Path
    paths: list[str]
    wnids: list[str]

    def files(self, classes: Sequence[str]) -> Files:
        """Return them with their positions in `classes` as labels."""
        labels = {wnid: label for label, wnid in enumerate(classes)}
        if not self.paths:
            raise ReldropError(f"{self.folder} has no images of the {len(classes)} classes; add some")
        if strange := set(self.wnids) - set(classes):
            raise ReldropError(
                f"{self.folder} has images of {min(strange)}, a class without training images; add some, or leave it out"
            )
        return Files(self.paths, torch.tensor([labels[wnid] for wnid in self.wnids]))


def _list(
    folder: Path, wanted: frozenset[str] | None, places: Sequence[Path], labels: str | None, ids: str | None
) -> _Listing:
    """List the images of class folders, or of one folder with the labels in a file."""
    images = flat_images(folder)
    if images is None:
        return _list_folders(folder, wanted)
    pairs = zip(images, val_wnids(images, places, labels, ids), strict=True)
    kept = [(path, wnid) for path, wnid in pairs if wanted is None or wnid in wanted]
    return _Listing(folder, [path for path, _ in kept], [wnid for _, wnid in kept])


def _list_folders(folder: Path, wanted: frozenset[str] | None) -> _Listing:
    paths: list[str] = []
    wnids: list[str] = []
    for wnid in class_names(folder):
        if wanted is None or wnid in wanted:
            found = image_files(folder / wnid)
            if not found:
                raise ReldropError(f"{folder / wnid} has no images; add some, or remove it")
            paths += found
            wnids += [wnid] * len(found)
    return _Listing(folder, paths, wnids)


def _find(root: str, folders: Sequence[str], train_split: str) -> Path:
    bases = candidates(root, folders)
    base = first(bases, lambda base: (base / "val").is_dir() and (base / train_split).is_dir())
    if base is None:
        lacking = first(bases, lambda base: (base / "val").is_dir())
        hint = "" if lacking is None else f" ({lacking} has val alone: dataset.train_split=val trains on that)"
        wanted = "train/WNID and val" if train_split == "train" else "val"
        raise ReldropError(f"ImageNet not found: looked in {listed(bases)} for {wanted}{hint}; {WHERE_ELSE}")
    return base


def _wanted(classes: Sequence[str] | str, root: str) -> frozenset[str]:
    if isinstance(classes, str):
        classes = read_wnids(root, classes)
    if not classes:
        raise ReldropError("classes=[] must be some WNIDs, or null for all classes there are")
    return frozenset(map(str, classes))


def _reading(
    size: int,
    eval_resize: int,
    interpolation: str,
    scale: Sequence[float] | None,
    ratio: Sequence[float],
    on_decode_error: str,
) -> DecodeOptions:
    if eval_resize < size:
        raise ReldropError(f"eval_resize={eval_resize} must be at least size={size}, which is cropped from it")
    crop = None if scale is None else RandomResizedCrop(tuple(scale), tuple(ratio), interpolation)
    return DecodeOptions(CenterCrop(eval_resize, interpolation), crop, on_decode_error)

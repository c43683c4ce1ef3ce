"""ImageNet-1k and choices of its classes, in any of the layouts that it is distributed in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from reldrop.data.images.crops import CenterCrop, RandomResizedCrop
from reldrop.data.images.dataset import ImageListing, image_dataset
from reldrop.data.images.decoding import DecodeOptions
from reldrop.data.images.folders import class_files, flat_images, label_files
from reldrop.data.images.imagenet_labels import read_wnids, val_wnids
from reldrop.data.paths import WHERE_ELSE, candidates, class_folders, described, first, listed
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.types import Count, Positive, PositiveFraction, Two


@image_dataset
def imagenet(
    folders: Sequence[str],
    size: Count = 224,
    eval_resize: Count = 256,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    crop_scale: Annotated[Sequence[PositiveFraction], Two] | None = (0.08, 1.0),
    crop_ratio: Annotated[Sequence[Positive], Two] = (3 / 4, 4 / 3),
    classes: Sequence[str] | str | None = None,
    train_split: Literal["train", "val"] = "train",
    val_labels: str | None = None,
    synset_ids: str | None = None,
    on_decode_error: Literal["error", "skip"] = "error",
    machine: Machine = Machine(),
) -> ImageListing:
    """Read ImageNet from folders `train/WNID` and `val/WNID`, or files `val/NAME.JPEG`; the val images are the test split.

    Training sees random crops, resized, and evaluation the center.

    Args:
        folders: where to look in the data folder, in this order.
        size: side of the square images, in pixels.
        eval_resize: length of the short side before the center is cropped, in pixels, at least `size`.
        interpolation: bilinear or bicubic.
        crop_scale: least and largest share of an image's area that a random crop takes; None trains on center crops.
        crop_ratio: least and largest ratio of width to height of a random crop.
        classes: WNIDs, or a file with one a line (relative to the data folder, or absolute); None for all that are found.
            Labels are their positions in alphabetical order.
        train_split: folder of the training images. val trains on the test images, to try things out.
        val_labels: the labels of a flat val folder, see `reldrop.data.images.imagenet_labels`; None for a known name.
        synset_ids: the file that says which WNID an ILSVRC id is; None for a known name.
        on_decode_error: "error" stops at a file that cannot be decoded, "skip" does without it, see `DecodeOptions`.
    """
    if eval_resize < size:
        raise ReldropError(f"eval_resize={eval_resize} must be at least size={size}, which is cropped from it")
    crop = None if crop_scale is None else RandomResizedCrop(crop_scale, crop_ratio, interpolation)
    base = _find(machine.root, folders, train_split)
    wanted = None if classes is None else _wanted(classes, machine.root)
    flat, listed_val = flat_images(base / "val"), None
    if flat is not None:
        wnids = val_wnids(flat, [base, machine.root.expanduser()], val_labels, synset_ids)
        listed_val = [pair for pair in zip(flat, wnids, strict=True) if wanted is None or pair[1] in wanted]
    only_flat = listed_val is not None and train_split == "val"
    present = {wnid for _, wnid in listed_val} if only_flat else set(class_folders(base / train_split))
    if absent := sorted((wanted or present) - present):
        raise ReldropError(f"classes={absent[0]} has no images in {base / train_split}")
    names, val = sorted(wanted or present), base / "val"
    test = class_files(val, names, wanted) if listed_val is None else label_files(val, listed_val, names)
    train = test if train_split == "val" else class_files(base / train_split, names, wanted)
    options = DecodeOptions(CenterCrop(eval_resize, interpolation), crop, on_decode_error)
    return ImageListing("imagenet", names, train, test, described("image files", base), size, options)


def _find(root: Path, folders: Sequence[str], train_split: str) -> Path:
    bases = candidates(root, folders)
    base = first(bases, lambda base: (base / "val").is_dir() and (base / train_split).is_dir())
    if base is None:
        lacking = first(bases, lambda base: (base / "val").is_dir())
        hint = "" if lacking is None else f" ({lacking} has only val: dataset.train_split=val trains on that)"
        wanted = "train/WNID and val" if train_split == "train" else "val"
        raise ReldropError(f"ImageNet not found: looked in {listed(bases)} for {wanted}{hint}; {WHERE_ELSE}")
    return base


def _wanted(classes: Sequence[str] | str, root: Path) -> set[str]:
    if isinstance(classes, str):
        classes = read_wnids(root, classes)
    if not classes:
        raise ReldropError("classes=[] must be some WNIDs, or null for all classes that are found")
    return set(map(str, classes))

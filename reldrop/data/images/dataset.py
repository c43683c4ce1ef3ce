"""`ImageData`: a data set as training and evaluation see it, in batches of normalized images; and what makes it of files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from reldrop.data.base import Collate, Data, Split
from reldrop.data.images.batch_crops import Crops, crop_and_flip, draw_crops
from reldrop.data.images.decoding import PLAIN, DecodeOptions, StreamedImages, on_device
from reldrop.data.paths import Files
from reldrop.data.readers import Listing, dataset
from reldrop.distributed.sharding import ALL, BatchSharder, Shard
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.seeding import generator
from reldrop.utils.types import Count, FractionBelowOne, Positive, WholeNumber, checked

GRAY = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow has it


@dataclass(eq=False)
class ImageSplit(Split):
    """The N images of one split: (images, labels).

    Attributes:
        stored: uint8 (N, C, H, W), a tensor or an array; or files to decode when used.
        labels: whole numbers (N,), which become int64.
        paths: the N files they are decoded from; None if they come from arrays. Streamed images bring theirs.
        reading: how those are read. Streamed images bring theirs.
    """

    stored: Tensor | StreamedImages
    paths: Sequence[str] | None = None
    reading: DecodeOptions = PLAIN

    def __post_init__(self) -> None:
        if isinstance(self.stored, StreamedImages):
            self.paths, self.reading = self.stored.paths, self.stored.reading
        else:
            self.stored = torch.as_tensor(self.stored)
        self.labels = torch.as_tensor(self.labels).long()

    @property
    def images(self) -> Tensor | StreamedImages:
        return self.stored

    @property
    def channels(self) -> int:
        return self.stored.shape[1] if isinstance(self.stored, Tensor) else self.reading.channels

    def batches(
        self, order: Tensor, batch_size: int, sharder: BatchSharder = ALL, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8 (b, C, H, W), and their indices, see `Split.batches` and `StreamedImages.batches`.

        Batches of evaluation may have fewer images where some cannot be decoded and are skipped.
        """
        if isinstance(self.stored, Tensor) or not len(order):
            yield from super().batches(order, batch_size, sharder)
            return
        device = self.labels.device
        moved = order.to(device)  # once: a copy for each batch would wait for the device
        decoded = self.stored.batches(order, batch_size, sharder, seed=seed, pin_memory=device.type == "cuda")
        for index, (images, rows) in zip(moved.split(batch_size), on_device(decoded, device), strict=True):
            if len(images):
                yield images, index[sharder.shard(len(index)).rows if rows is None else rows]


@checked
@dataclass(eq=False)
class ImageData(Data):
    """An image classification data set of square images.

    Attributes:
        name, classes, source, train, test, validation: see `Data`.
        size: side of an image, in pixels.
        mean, std: of each channel of the training images, which are in [0, 1].
        crop_padding: black pixels around a training image before the random crop; 0 for no crop.
        flip: whether training images are flipped left to right with probability 0.5.

    Raises:
        ReldropError: there are too few images to train on, or a setting is out of range.
    """

    kind: ClassVar[str] = "images"
    unit: ClassVar[str] = "image"

    name: str
    classes: tuple[str, ...]
    size: int
    mean: Sequence[float]
    std: Sequence[Positive]
    source: str
    train: ImageSplit
    test: ImageSplit
    validation: ImageSplit | None = None
    crop_padding: WholeNumber = 0
    flip: bool = False

    def __post_init__(self) -> None:
        self.mean, self.std = tuple(map(float, self.mean)), tuple(map(float, self.std))
        if len(self.mean) != len(self.std):
            raise ReldropError(f"mean={list(self.mean)} and std={list(self.std)} must each give one number a channel")
        if len(self.mean) != self.train.channels:
            raise ReldropError(
                f"mean={list(self.mean)} must have a number for each channel, and these images have {self.train.channels}"
                f"{'; image_folder reads one with grayscale=true' if len(self.mean) == 1 else ''}"
            )
        if self.crop_padding > self.size:
            raise ReldropError(
                f"crop_padding={self.crop_padding} must be at most the side of the images, {self.size} pixels"
            )
        super().__post_init__()
        self.to("cpu")

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for a backbone: number of classes and channels, and the side of an image in pixels."""
        return {"num_classes": self.num_classes, "channels": self.channels, "size": self.size}

    @property
    def augmentation_kwargs(self) -> dict[str, Any]:
        """What an augmentation may get to know: the number of classes, and the normalization, (mean, std)."""
        return {**super().augmentation_kwargs, "normalization": (self.mean, self.std)}

    def dummy_input(self) -> Tensor:
        """Return one input, zeros (1, C, S, S), on the CPU."""
        return torch.zeros(1, self.channels, self.size, self.size)

    def to(self, device: torch.device | str) -> "ImageData":
        """Move the labels, and the images where they are in memory, to `device`, where batches then come from."""
        super().to(device)
        self._mean, self._std = (torch.tensor(value, device=device)[:, None, None] for value in (self.mean, self.std))
        return self

    def collate(self, epoch: int, seed: int) -> Collate:
        """Return the function that crops, flips and normalizes the training images of an epoch."""
        crops = draw_crops(len(self.train), self.crop_padding, self.flip, generator(seed, "crop", epoch))
        crops = crops.to(self._mean.device)

        def crop(images: Tensor, number: int, first: int, shard: Shard) -> tuple[Tensor, Crops]:
            own = crops[first + shard.start : first + shard.stop]
            return self.normalize(crop_and_flip(images, own, self.crop_padding)), own

        return crop

    def normalize(self, stored: Tensor) -> Tensor:
        """Turn uint8 images (B, C, H, W) on the data's device into network inputs, float32."""
        return (stored.float() / 255 - self._mean) / self._std

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Turn network inputs (B, C, H, W) on the data's device into float32 images in [0, 1]."""
        return (inputs.float() * self._std + self._mean).clamp(0, 1)


@dataclass(frozen=True)
class ImageListing(Listing):
    """What a reader of images finds: files, or arrays in memory.

    Attributes:
        size: side of the square images, in pixels.
        reading: how files are read.
    """

    train: Files | ImageSplit
    test: Files | ImageSplit
    size: int
    reading: DecodeOptions = PLAIN

    def check(self) -> None:
        super().check()
        for items in (self.train, self.test):
            images = getattr(items, "stored", None)  # those in memory
            if isinstance(images, Tensor) and (images.dtype, images.shape[2:]) != (torch.uint8, (self.size, self.size)):
                found = f"{tuple(images.shape)} of type {images.dtype}"
                wanted = f"(N, channels, {self.size}, {self.size}), values 0 to 255, of type torch.uint8"
                raise ReldropError(f"dataset {self.name} has images {found}; they must be {wanted}")


def load_images(
    listing: ImageListing,
    *,
    name: str | None = None,
    mean: Sequence[float],
    std: Sequence[Positive],
    crop_padding: WholeNumber = 0,
    flip: bool = False,
    subset: Count | None = None,
    test_subset: Count | None = None,
    validation: FractionBelowOne = 0.0,
    machine: Machine = Machine(),
) -> ImageData:
    """Choose from the images of a listing, and read the chosen ones: now, or as they are used if memory is too small.

    Which images are chosen depends on the data only. Files that training sees in random crops, or of which some may be
    skipped, are always read as they are used.

    Args:
        name: of the data set, in reports; None for that of the listing.
        mean, std: of each channel of the training images, which are in [0, 1]; for grayscale, those of colors will do.
        crop_padding: black pixels around a training image before the random crop; 0 for no crop.
        flip: whether training images are flipped left to right with probability 0.5.
        subset: number of training images, as evenly as possible over the classes; None for all.
        test_subset: likewise of the test images.
        validation: share of the training images held out before `subset` is chosen, in [0, 1).
        machine: where the images are, and how many gigabytes of them are kept in memory.

    Raises:
        ReldropError: a setting is out of range, or an image cannot be decoded.
    """
    title = listing.name if name is None else name
    chosen = listing.choose(subset, test_subset, validation, ImageData.unit)
    items = {split: listing.items(split)[index] for split, index in chosen.items()}
    size, reading = listing.size, listing.reading
    if reading.grayscale and len(mean) == len(std) == 3:
        mean, std = ([sum(weight * each for weight, each in zip(GRAY, value, strict=True))] for value in (mean, std))
    streamed = {"train"} if reading.crop or reading.on_decode_error == "skip" else set()
    kept = sum(len(each) for split, each in items.items() if split not in streamed)
    if kept * reading.channels * size**2 > machine.memory_gb * 1e9:
        streamed = set(items)

    def read(split: str) -> ImageSplit:
        files = items[split]
        if isinstance(files, ImageSplit):
            return files
        images = StreamedImages(files.paths, size, machine.processes, reading)
        if split in streamed:
            return ImageSplit(images, files.labels)
        loaded, decoded = images.load(f"{title} {split}", machine.progress)
        return ImageSplit(loaded, files.labels[decoded], files[decoded].paths, reading)

    splits = {split: read(split) for split in ("train", "test", "validation") if split in items}
    return ImageData(
        title, listing.classes, size, mean, std, listing.source, **splits, crop_padding=crop_padding, flip=flip
    )


image_dataset = dataset(load_images)

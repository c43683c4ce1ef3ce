"""`ImageData`: a data set as training and evaluation see it, in batches of normalized images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reldrop.data.base import Batch, Data
from reldrop.data.images.batch_crops import crop_and_flip, draw_crops
from reldrop.data.images.crops import RandomResizedCrop
from reldrop.data.images.decoding import PLAIN, DecodeOptions, StreamedImages
from reldrop.data.prefetch import on_device
from reldrop.distributed.sharding import ALL, BatchSharder
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator
from reldrop.utils.types import Positive, WholeNumber, checked


@dataclass(eq=False)
class ImageSplit:
    """The N images of one split.

    Attributes:
        images: uint8 (N, C, H, W), or files to decode when used.
        labels: int64 (N,).
        paths: the N files they are decoded from; None if they come from arrays. Streamed images bring theirs.
        reading: how those are read. Streamed images bring theirs.
    """

    images: Tensor | StreamedImages
    labels: Tensor
    paths: Sequence[str] | None = None
    reading: DecodeOptions = PLAIN

    def __post_init__(self) -> None:
        if isinstance(self.images, StreamedImages):
            self.paths, self.reading = self.images.paths, self.images.reading

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageSplit":
        """Move the labels, and the images where they are in memory, to `device`."""
        if isinstance(self.images, Tensor):
            self.images = self.images.to(device)
        self.labels = self.labels.to(device)
        return self

    @property
    def crop(self) -> RandomResizedCrop | None:
        """The random crops that training sees, if any."""
        return self.reading.crop if isinstance(self.images, StreamedImages) else None

    def batches(
        self,
        order: Tensor,
        batch_size: int,
        sharder: BatchSharder = ALL,
        whole: bool = False,
        draws: Iterable[np.ndarray] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of `order`, int64 on the CPU, and which they are.

        Args:
            order: of the images.
            batch_size: images a batch.
            sharder: which rows of each batch to yield.
            whole: whether another image of the batch takes the place of one that cannot be decoded and is skipped; else
                batches may have fewer images.
            draws: for the random crops of each batch, if there shall be such.

        Yields:
            Images uint8 (b, C, H, W) and their indices int64 (b,), on the split's device.
        """
        if not len(order):
            return  # split() would make one empty batch of it
        device = self.labels.device
        moved = order.to(device)  # once: a copy for each batch would wait for the device
        if isinstance(self.images, Tensor):
            for index in sharder.split(moved, batch_size):
                yield self.images[index], index
            return
        batches = order.split(batch_size)
        rows = [sharder.shard(len(batch)).rows for batch in batches]
        decoded = self.images.batches(batches, device.type == "cuda", whole, draws, rows)
        for index, own, (images, places) in zip(moved.split(batch_size), rows, on_device(decoded, device), strict=True):
            if len(images):
                yield images, index[own if places is None else places]


@checked
@dataclass(eq=False)
class ImageData(Data):
    """An image classification data set of square images.

    Attributes:
        name: of the data set.
        classes: names of the classes, in the order of the labels.
        size: side of an image, in pixels.
        mean: of each channel of the training images, which are in [0, 1].
        std: likewise.
        source: where it was read from.
        train: training images.
        test: test images.
        validation: images held out of the training images, if any.
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
        super().__post_init__()
        self.to("cpu")

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """What a backbone is told: number of classes and channels, and the side of an image in pixels."""
        return {"num_classes": self.num_classes, "channels": self.channels, "size": self.size}

    @property
    def augmentation_kwargs(self) -> dict[str, Any]:
        """What an augmentation that fills is told: the normalization, (mean, std)."""
        return {"normalization": (self.mean, self.std)}

    def dummy_input(self) -> Tensor:
        """Return one input, zeros (1, C, S, S), on the CPU."""
        return torch.zeros(1, self.channels, self.size, self.size)

    def to(self, device: torch.device | str) -> "ImageData":
        """Move the labels, and the images where they are in memory, to `device`, where batches then come from."""
        super().to(device)
        self._mean, self._std = (torch.tensor(value, device=device)[:, None, None] for value in (self.mean, self.std))
        return self

    def train_batches(
        self, epoch: int, *, batch_size: int, seed: int, start: int = 0, sharder: BatchSharder = ALL
    ) -> Iterator[Batch]:
        """Yield the training images of an epoch, shuffled, cropped, flipped and normalized, each once.

        What is drawn depends on the seed, the epoch and the place in it: the batches from `start` on are the same for
        every `start` and any number of workers.

        Args:
            epoch: number of the epoch, from 0.
            batch_size: images a batch. The last batch has what is left, but a single image is left out, since batch
                norm cannot train on one.
            seed: of the run.
            start: number of batches to skip.
            sharder: which rows of each batch to yield; they are the same as in the whole batch.

        Raises:
            ReldropError: a streamed image cannot be decoded.
        """
        used = self._training_items(batch_size, start)
        order = self._training_order(epoch, seed)[used]
        crops = draw_crops(len(self.train), self.crop_padding, self.flip, generator(seed, "crop", epoch))[used]
        crops = crops.to(self._mean.device).split(batch_size)
        resized = self.train.crop
        draws = resized and (
            resized.draw(len(shard), generator(seed, "resized crop", epoch, start + index))
            for index, shard in enumerate(order.split(batch_size))
        )
        batches = self.train.batches(order, batch_size, sharder, whole=True, draws=draws)
        for (images, indices), crop in zip(batches, crops, strict=True):
            shard = sharder.shard(len(crop))
            own = crop[shard.rows]
            inputs = self.normalize(crop_and_flip(images, own, self.crop_padding))
            yield Batch(inputs, self.train.labels[indices], indices, shard, own)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 images (B, C, H, W) on the data's device into network inputs, float32."""
        return (images.float() / 255 - self._mean) / self._std

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Turn network inputs (B, C, H, W) on the data's device into float32 images in [0, 1]."""
        return (inputs.float() * self._std + self._mean).clamp(0, 1)

    def _network_inputs(self, stored: Tensor) -> Tensor:
        return self.normalize(stored)

"""From a reader of images to `ImageData`."""

from collections.abc import Sequence
from dataclasses import dataclass

from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.images.decoding import PLAIN, DecodeOptions, StreamedImages
from reldrop.data.paths import Files
from reldrop.data.readers import Listing, dataset
from reldrop.utils.machine import Machine
from reldrop.utils.types import Count, FractionBelowOne, Positive, WholeNumber


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
        mean, std: of each channel of the training images, which are in [0, 1].
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
    items = {
        split: (listing.test if split == "test" else listing.train)[index]
        for split, index in listing.choose(subset, test_subset, validation, ImageData.unit).items()
    }
    size, reading = listing.size, listing.reading
    streamed = {"train"} if reading.crop or reading.on_decode_error == "skip" else set()
    if sum(len(each) for split, each in items.items() if split not in streamed) * 3 * size**2 > machine.memory_gb * 1e9:
        streamed = set(items)

    def read(split: str) -> ImageSplit:
        chosen = items[split]
        if isinstance(chosen, ImageSplit):
            return chosen
        files = StreamedImages(chosen.paths, size, machine.processes, reading)
        if split in streamed:
            return ImageSplit(files, chosen.labels)
        images, decoded = files.load(f"{title} {split}", machine.progress)
        chosen = chosen[decoded]
        return ImageSplit(images, chosen.labels, chosen.paths, reading)

    splits = {split: read(split) for split in ("train", "test", "validation") if split in items}
    return ImageData(
        title, listing.classes, size, mean, std, listing.source, **splits, crop_padding=crop_padding, flip=flip
    )


image_dataset = dataset(load_images)

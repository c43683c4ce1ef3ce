"""A data set of my own, e.g. of drawn images."""

import numpy as np

from reldrop.data import ImageListing, ImageSplit, image_dataset
from reldrop.utils.types import Count


@image_dataset
def my_part(size: Count = 16) -> ImageListing:
    """Lying and standing bars in noise. Arrays are uint8 (N, channels, size, size); for files, see docs/extending.md."""
    draws = np.random.default_rng(0)
    images, labels = draws.integers(120, size=(300, 1, size, size), dtype=np.uint8), np.arange(300) % 2
    images[labels == 0, :, size // 4 : size // 2] += 120
    images[labels == 1, :, :, size // 4 : size // 2] += 120
    train, test = ImageSplit(images[:200], labels[:200]), ImageSplit(images[200:], labels[200:])
    return ImageListing("my_part", ("lying", "standing"), train, test, "drawn", size)

"""Image classification data: `ImageData`, which training reads its batches from, and the functions that load one."""

from reldrop.data.images import ImageData, ImageSplit
from reldrop.data.sources import cifar, digits, image_folder, tiny_imagenet

__all__ = ["ImageData", "ImageSplit", "cifar", "digits", "image_folder", "tiny_imagenet"]

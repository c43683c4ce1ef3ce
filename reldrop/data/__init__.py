"""Data sets for classification: `ImageData` and `PointData`, and the functions that load one.

Training and evaluation read batches from them, see `Data`. A data set of your own is a function that returns a listing,
with `@image_dataset` or `@point_dataset` above it.
"""

from reldrop.data.base import Data
from reldrop.data.images.annotations import Regions, find_regions
from reldrop.data.images.dataset import ImageData, ImageListing, ImageSplit, image_dataset
from reldrop.data.images.datasets import cifar, digits, image_folder, tiny_imagenet
from reldrop.data.images.imagenet import imagenet
from reldrop.data.paths import Files
from reldrop.data.points.dataset import PointData, PointSplit
from reldrop.data.points.datasets import modelnet, point_folder, shapenet, shapes
from reldrop.data.points.transforms import PointTransform

__all__ = [
    "Data",
    "Files",
    "ImageData",
    "ImageListing",
    "ImageSplit",
    "PointData",
    "PointSplit",
    "PointTransform",
    "Regions",
    "cifar",
    "digits",
    "find_regions",
    "image_dataset",
    "image_folder",
    "imagenet",
    "modelnet",
    "point_folder",
    "shapenet",
    "shapes",
    "tiny_imagenet",
]

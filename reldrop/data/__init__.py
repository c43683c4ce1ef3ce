"""Data sets for classification: `ImageData` and `PointData`, and the functions that load one.

Training and evaluation read batches from them, see `Data`.
"""

from reldrop.data.base import Data
from reldrop.data.images.annotations import Regions, find_regions
from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.images.datasets import cifar, digits, image_folder, tiny_imagenet
from reldrop.data.images.imagenet import imagenet
from reldrop.data.points.dataset import PointData, PointSplit
from reldrop.data.points.datasets import modelnet, point_folder, shapenet
from reldrop.data.points.synthetic import shapes
from reldrop.data.points.transforms import PointTransform

__all__ = [
    "Data",
    "ImageData",
    "ImageSplit",
    "PointData",
    "PointSplit",
    "PointTransform",
    "Regions",
    "cifar",
    "digits",
    "find_regions",
    "image_folder",
    "imagenet",
    "modelnet",
    "point_folder",
    "shapenet",
    "shapes",
    "tiny_imagenet",
]

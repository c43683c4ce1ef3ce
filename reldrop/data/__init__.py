"""Data sets for classification: `ImageData` and `PointData`, and the functions that load one.

Training and evaluation read batches from them, see `Data`.
"""

from reldrop.data.base import Data
from reldrop.data.cloud_sources import modelnet, point_folder, shapenet
from reldrop.data.cloud_transforms import Perturbation
from reldrop.data.ilsvrc import imagenet
from reldrop.data.images import ImageData, ImageSplit
from reldrop.data.points import PointData, PointSplit
from reldrop.data.regions import Regions, find_regions
from reldrop.data.shapes import shapes
from reldrop.data.sources import cifar, digits, image_folder, tiny_imagenet

__all__ = [
    "Data",
    "ImageData",
    "ImageSplit",
    "Perturbation",
    "PointData",
    "PointSplit",
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

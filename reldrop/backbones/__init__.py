"""The networks that configurations name. timm and torchvision are imported when one is built, as that takes seconds."""

from reldrop.backbones.points import point_network
from reldrop.backbones.timm import timm_model
from reldrop.backbones.torchvision import torchvision_model

__all__ = ["point_network", "timm_model", "torchvision_model"]

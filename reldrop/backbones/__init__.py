"""The networks that configurations name."""

from reldrop.backbones.points import point_network
from reldrop.backbones.resnets import resnet

__all__ = ["point_network", "resnet"]

"""The networks that configurations name."""

from reldrop.backbones.points import point_network
from reldrop.backbones.resnets import resnet
from reldrop.backbones.vits import vit

__all__ = ["point_network", "resnet", "vit"]

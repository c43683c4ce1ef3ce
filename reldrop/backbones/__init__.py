"""The networks that configurations name. timm is imported when one is built: it takes seconds, and not all need it."""

from reldrop.backbones.points import point_network
from reldrop.backbones.resnets import resnet
from reldrop.backbones.vits import vit

__all__ = ["point_network", "resnet", "vit"]

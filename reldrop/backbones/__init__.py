"""The networks that configurations name. timm is imported when one is built: it takes seconds, and not all need it."""

from reldrop.backbones.points import point_network
from reldrop.backbones.timm import timm_model

__all__ = ["point_network", "timm_model"]

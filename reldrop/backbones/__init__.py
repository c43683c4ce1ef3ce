"""Networks: timm's ResNets, with a stem for small images where the images are small."""

from reldrop.backbones.resnets import resnet

__all__ = ["resnet"]

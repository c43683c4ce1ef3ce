"""An augmentation of my own, e.g. occlusion of the most relevant pixels."""

from dataclasses import dataclass

from torch import Tensor

from reldrop.augmentation import ImageOcclusion
from reldrop.utils.types import Fraction


@dataclass(kw_only=True)
class MyPart(ImageOcclusion):
    """Occludes the pixels that are more relevant than a share of all. For anything else, subclass `Augmentation`."""

    share: Fraction = 0.8

    def make_mask(self, maps: Tensor) -> Tensor:
        """Return which pixels are occluded, bool (n, H, W), from the relevance of n images, (n, H, W)."""
        return maps > maps.flatten(1).quantile(self.share, dim=1)[:, None, None]

"""The 1,000 classes of ImageNet-1k, and the 200 of them that ImageNet-A, -O and -R have.

The order of the 1,000 and the classes of ImageNet-A and -R are the lists that timm ships (timm/data/_info). timm has none
for ImageNet-O: imagenet_o_synsets.txt holds `imagenet_o_wnids` of eval_many_models.py in
github.com/hendrycks/natural-adv-examples, by the authors of the data set (commit fe092a9).
"""

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

SETS = {"imagenet_a": "ImageNet-A", "imagenet_r": "ImageNet-R", "imagenet_o": "ImageNet-O"}  # of 200 classes each


@cache
def synsets() -> tuple[str, ...]:
    """Return the 1,000 WNIDs of ImageNet-1k in the order of a network's outputs, which is alphabetical."""
    from timm.data import ImageNetInfo  # timm takes seconds to import

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def class_wnids(name: str) -> tuple[str, ...]:
    """Return the 200 WNIDs of one of `SETS`, in alphabetical order."""
    folder = files("reldrop.evaluation") if name == "imagenet_o" else files("timm.data") / "_info"
    return tuple(sorted((folder / f"{name}_synsets.txt").read_text().split()))


def class_indices(name: str) -> Tensor:
    """Return where in `synsets()` the classes of one of `SETS` are, int64 (200,), ascending."""
    places = {wnid: place for place, wnid in enumerate(synsets())}
    return torch.tensor([places[wnid] for wnid in class_wnids(name)])

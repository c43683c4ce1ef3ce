"""Which parts of an input made a network choose a class: relevance(model, inputs, targets).

The shapes and promises are those of `Attribution`, the base class.
"""

from torch import Tensor, nn

from reldrop.attribution.audit import Audit, check
from reldrop.attribution.base import Attribution
from reldrop.attribution.baselines import CenterPrior, InputGradient, RandomRelevance
from reldrop.attribution.captum import Captum
from reldrop.attribution.gradient import GradientLRP
from reldrop.attribution.recycled import Recycled
from reldrop.attribution.release import ReleaseLRP
from reldrop.attribution.zennit import ZennitLRP

__all__ = [
    "Attribution",
    "Audit",
    "Captum",
    "CenterPrior",
    "GradientLRP",
    "InputGradient",
    "RandomRelevance",
    "Recycled",
    "ReleaseLRP",
    "ZennitLRP",
    "check",
    "relevance",
]

_default = GradientLRP()


def relevance(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return relevance by GradientLRP: (B, H, W) of images (B, C, H, W), (B, N) of points (B, N, C); targets (B,)."""
    return _default(model, inputs, targets)

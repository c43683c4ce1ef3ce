"""Parts of a user's own that break a promise."""

from typing import Any

from torch import Tensor, nn

from reldrop.attribution import Attribution
from reldrop.augmentation import Augmentation


class Half(Augmentation):
    def __call__(self, inputs: Tensor, targets: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        return inputs[:1], targets


class WithoutMap(Attribution):
    def __call__(self, model: Any, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
        return inputs


class Features(nn.Module):
    """Has no head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)

"""python -m pytest test_my_part.py"""

import torch
from my_part import MyPart

from reldrop.attribution import GradientLRP
from reldrop.training.contracts import check_attribution, check_backbone

INPUTS = torch.randn(2, 3, 16, 16)


def test_it_keeps_the_promises_of_a_backbone() -> None:
    check_backbone(MyPart(num_classes=10, channels=3), INPUTS, num_classes=10)


def test_relevance_can_be_propagated_through_it() -> None:
    check_attribution(GradientLRP(), MyPart(num_classes=10, channels=3), INPUTS, torch.tensor([0, 1]))

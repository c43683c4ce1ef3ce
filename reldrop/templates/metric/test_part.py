"""python -m pytest test_my_part.py"""

import math

import torch
from my_part import MyPart

from reldrop.metrics.split import check_metrics


def test_it_keeps_the_promises_of_a_metric() -> None:
    check_metrics({"my_part": MyPart()}, num_classes=10)


def test_it_is_largest_for_equal_logits() -> None:
    assert math.isclose(MyPart()(torch.zeros(5, 4), torch.zeros(5)), math.log(4), rel_tol=1e-6)

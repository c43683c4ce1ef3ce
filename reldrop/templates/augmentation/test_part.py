"""python -m pytest test_my_part.py"""

import torch
from my_part import MyPart

from reldrop.training.contracts import check_augmentation


def test_it_keeps_the_promises_of_an_augmentation() -> None:
    check_augmentation(MyPart(), torch.randn(2, 3, 16, 16), num_classes=10)


def test_it_occludes_the_most_relevant_pixels() -> None:
    maps = torch.arange(100.0).reshape(1, 10, 10)
    mask = MyPart(probability=1).mask(torch.zeros(1, 3, 10, 10), lambda rows: maps[rows])
    assert mask.flatten().nonzero().flatten().tolist() == list(range(80, 100))

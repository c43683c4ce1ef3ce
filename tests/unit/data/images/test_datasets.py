"""Digits."""

import pytest
import torch

from reldrop import data
from tests.helpers.images import DIGITS


def test_digits() -> None:
    digits = data.digits(**DIGITS)
    assert (len(digits.train), len(digits.test)) == (1347, 450)
    assert (digits.num_classes, digits.channels, digits.size) == (10, 1, 8)
    assert digits.classes == tuple("0123456789")
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert digits.test.labels.bincount().min() >= 43
    images = torch.cat([digits.train.images, digits.test.images]) / 255
    assert images.mean().item() == pytest.approx(digits.mean[0], abs=1e-4)
    assert images.std().item() == pytest.approx(digits.std[0], abs=1e-4)
    assert torch.equal(digits.train.images, data.digits(**DIGITS).train.images)

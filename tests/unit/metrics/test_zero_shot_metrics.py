"""Metrics."""

import itertools
import math

import numpy as np
import pytest
import torch

from reldrop.metrics.accuracy import confidences, ranks, restrict, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.detection import detection
from reldrop.utils.errors import ReldropError


def test_restricted_accuracy_by_hand() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0, 2.0], [9.0, 1.0, 5.0, 2.0], [0.0, 3.0, 8.0, 3.0]])
    labels, classes = torch.tensor([1, 3, 3]), torch.tensor([1, 3])
    assert ranks(logits, labels).tolist() == [2, 2, 2]  # class 0 or 2 wins; in the last row 1 comes before 3
    inside, places = restrict(logits, labels, classes)
    assert inside.tolist() == [[1, 2], [1, 2], [3, 3]]
    assert places.tolist() == [0, 1, 1]
    rank = ranks(inside, places)
    assert rank.tolist() == [1, 0, 1]  # a tie goes to the first class
    assert top_k(rank, 1) == pytest.approx(1 / 3)
    assert top_k(rank, 2) == 1
    expected = [math.exp(2) / (math.exp(1) + math.exp(2))] * 2 + [0.5]
    assert confidences(inside).tolist() == pytest.approx(expected, abs=1e-15)


def test_a_label_outside_the_classes_and_values_that_are_not_finite() -> None:
    with pytest.raises(ReldropError, match="class 2 is none of the 2 classes"):
        restrict(torch.zeros(1, 4), torch.tensor([2]), torch.tensor([1, 3]))
    for measure in (confidences, lambda logits: ranks(logits, torch.tensor([0]))):
        with pytest.raises(ReldropError, match="not finite"):
            measure(torch.tensor([[math.nan, 1.0]]))


def test_rms_calibration_error_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.2, 0.7, 0.3, 0.8], dtype=torch.float64)
    correct = torch.tensor([True, False, False, True, True])
    # bins of two, the fifth sample belongs to the last: {0.2, 0.3} with accuracy 1/2, {0.7, 0.8, 0.9} with 2/3
    first, last = 2 / 5 * (0.25 - 0.5) ** 2, 3 / 5 * (0.8 - 2 / 3) ** 2
    assert rms_calibration_error(confidence, correct, 2) == pytest.approx(math.sqrt(first + last), abs=1e-15)
    skipping = rms_calibration_error(confidence, correct, 2, skip_last_bin=True)
    assert skipping == pytest.approx(math.sqrt(first), abs=1e-15)
    # fewer than a bin are one bin, of which that script has nothing to say
    assert rms_calibration_error(confidence, correct) == pytest.approx(abs(0.58 - 0.6), abs=1e-15)
    assert math.isnan(rms_calibration_error(confidence, correct, skip_last_bin=True))
    assert math.isnan(rms_calibration_error(confidence[:0], correct[:0]))


def test_aurra_by_hand() -> None:
    confidence = torch.tensor([0.2, 0.9, 0.5, 0.7])
    correct = torch.tensor([True, True, True, False])
    assert aurra(confidence, correct) == pytest.approx((1 + 1 / 2 + 2 / 3 + 3 / 4) / 4, abs=1e-15)
    assert math.isnan(aurra(confidence[:0], correct[:0]))


def test_aurra_of_equal_confidences_is_the_mean_over_their_orders() -> None:
    confidence = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    correct = torch.tensor([False, True, True, False, True])
    areas = []
    for order in itertools.permutations([1, 2, 3]):
        answered = correct[[0, *order, 4]].double()
        areas.append((answered.cumsum(0) / torch.arange(1, 6)).mean().item())
    assert aurra(confidence, correct) == pytest.approx(np.mean(areas), abs=1e-15)


def test_detection_by_hand() -> None:
    unknown, known = torch.tensor([0.9, 0.6, 0.5]), torch.tensor([0.7, 0.5, 0.1, 0.2])
    found = detection(unknown, known)
    # from the top: 0.9 +, 0.7 -, 0.6 +, then 0.5 + and 0.5 - together
    assert found["aupr"] == pytest.approx(1 / 3 * (1 + 2 / 3 + 3 / 5), abs=1e-15)
    assert found["auroc"] == pytest.approx((4 + 3 + 2.5) / 12, abs=1e-15)
    assert found["fpr95"] == 0.5
    same = detection(torch.zeros(2), torch.zeros(10))
    assert same == pytest.approx({"aupr": 1 / 6, "auroc": 0.5, "fpr95": 1.0}, abs=1e-15)


def test_fpr_is_taken_where_recall_reaches_95_percent() -> None:
    unknown = torch.arange(100, 0, -1.0)
    known = torch.tensor([5.5, 6.5, 200.0, -1.0])
    assert detection(unknown, known)["fpr95"] == 0.5  # 95 of 100 score 6 or more
    assert detection(unknown[:19], known + 76)["fpr95"] == 0.5  # of 19, all: 18 are 94.7 %
    assert detection(unknown, unknown)["fpr95"] == 0.95  # also amid a straight piece of the curve

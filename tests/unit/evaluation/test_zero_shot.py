"""Zero shot."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reldrop.data.paths import Files
from reldrop.evaluation import imagenet_classes
from reldrop.metrics.accuracy import confidences
from reldrop.metrics.registry import describe
from tests.helpers.zero_shot import SUITE


def reference(logits: np.ndarray, labels: np.ndarray, classes: list[int]) -> dict[str, float]:
    """The definitions, sample by sample."""
    confidence, rank = [], []
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        values = [row[index] for index in classes]
        largest = max(values)
        odds = [math.exp(value - largest) for value in values]
        confidence.append(max(odds) / sum(odds))
        ordered = sorted(range(len(classes)), key=lambda place: (-values[place], place))
        rank.append(ordered.index(classes.index(label)))
    correct = np.array(rank) == 0
    share = [np.mean([hit for hit, other in zip(correct, confidence, strict=True) if other == c]) for c in confidence]
    ordered = sorted(zip(confidence, share, strict=True))
    starts = range(0, max(len(ordered) // 100, 1) * 100, 100)
    bins = [ordered[start : start + 100 if start != starts[-1] else None] for start in starts]
    squares = [len(b) / len(ordered) * (np.mean([c for c, _ in b]) - np.mean([s for _, s in b])) ** 2 for b in bins]
    best_first = [s for _, s in ordered[::-1]]
    return {
        "images": len(rank),
        "top1": np.mean(correct),
        "top5": np.mean(np.array(rank) < 5),
        "rms_calibration_error": math.sqrt(sum(squares)),
        "rms_calibration_error_public_script": math.sqrt(sum(squares[:-1])),
        "aurra": np.mean([np.mean(best_first[:k]) for k in range(1, len(best_first) + 1)]),
    }


def reference_detection(unknown: list[float], known: list[float]) -> dict[str, float]:
    aupr, recalled, fpr95 = 0.0, 0.0, None
    for threshold in sorted({*unknown, *known}, reverse=True):
        true, false = sum(s >= threshold for s in unknown), sum(s >= threshold for s in known)
        recall = true / len(unknown)
        aupr, recalled = aupr + true / (true + false) * (recall - recalled), recall
        if fpr95 is None and recall >= 0.95:
            fpr95 = false / len(known)
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    return {"aupr": aupr, "auroc": np.mean(pairs), "fpr95": fpr95}


class Stored:
    """A network that has been run: its logits of 1,000 classes for each file, in batches."""

    def __init__(self, logits: dict[str, Tensor], batch_size: int) -> None:
        self.logits, self.batch_size = logits, batch_size

    def __call__(self, files: Files, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.logits[name].split(self.batch_size), files.labels.split(self.batch_size), strict=True)


@pytest.fixture
def stored() -> tuple[dict[str, Files], dict[str, Tensor]]:
    """Random sets; values are rounded, so that many logits are equal, and repeated, so that many confidences are."""
    draws = torch.Generator().manual_seed(0)
    sets, logits = {}, {}
    for name, count in (("imagenet_a", 350), ("imagenet_r", 290), ("imagenet_o", 120), ("imagenet_val", 700)):
        classes = imagenet_classes.class_indices(name) if name in imagenet_classes.SETS else torch.arange(1000)
        labels = classes[torch.randint(len(classes), (count,), generator=draws)]
        values = (2 * torch.randn(count, 1000, generator=draws)).round()
        values[torch.arange(count), labels] += 5
        values[count // 2 :] = values[: count - count // 2]
        sets[name], logits[name] = Files([f"{index}.png" for index in range(count)], labels), values
    return sets, logits


def test_the_suite_is_a_transcription_of_the_definitions(stored: Any) -> None:
    sets, logits = stored
    results, samples = SUITE.measure(sets, Stored(logits, 64))
    labels = {name: files.labels.numpy() for name, files in sets.items()}
    values = {name: value.numpy() for name, value in logits.items()}
    classes = {name: imagenet_classes.class_indices(name).tolist() for name in imagenet_classes.SETS} | {
        "imagenet_val": [*range(1000)]
    }
    difference = results["imagenet_r"].pop("difference")
    clean = results["imagenet_r"].pop("val_top1")
    for name in ("imagenet_a", "imagenet_r", "imagenet_val"):
        assert samples[f"{name}/rank"].shape == samples[f"{name}/confidence"].shape == labels[name].shape
        assert results[name] == pytest.approx(reference(values[name], labels[name], classes[name]), abs=1e-12)
        assert len(set(confidences(logits[name]).tolist())) < len(sets[name])  # there are ties
    inside = np.isin(labels["imagenet_val"], classes["imagenet_r"])
    expected = reference(values["imagenet_val"][inside], labels["imagenet_val"][inside], classes["imagenet_r"])["top1"]
    assert clean == pytest.approx(expected, abs=1e-12)
    assert difference == pytest.approx(expected - results["imagenet_r"]["top1"], abs=1e-12)

    def scores(name: str) -> list[float]:
        kept = values[name][np.isin(labels[name], classes["imagenet_o"])][:, classes["imagenet_o"]]
        return (-np.max(np.exp(kept.astype(float)) / np.exp(kept.astype(float)).sum(1, keepdims=True), 1)).tolist()

    found = dict(results["imagenet_o"])
    assert found.pop("images") == 120
    assert found.pop("val_images") == np.isin(labels["imagenet_val"], classes["imagenet_o"]).sum()
    # Rounded, for the two ways to a softmax must agree on what is equal.
    rounded = [np.round(scores(name), 12).tolist() for name in ("imagenet_o", "imagenet_val")]
    assert found == pytest.approx(reference_detection(*rounded), abs=1e-9)


def test_figures_do_not_depend_on_the_batch_size_or_the_order(stored: Any) -> None:
    sets, logits = stored
    whole, _ = SUITE.measure(sets, Stored(logits, 1000))
    for size in (1, 7, 100):
        assert SUITE.measure(sets, Stored(logits, size))[0] == whole
    orders = {
        name: torch.randperm(len(files), generator=torch.Generator().manual_seed(1)) for name, files in sets.items()
    }
    shuffled = {name: Files(files.paths, files.labels[orders[name]]) for name, files in sets.items()}
    other, _ = SUITE.measure(shuffled, Stored({name: value[orders[name]] for name, value in logits.items()}, 50))
    for name, figures in whole.items():
        assert other[name] == pytest.approx(figures, abs=1e-12)


def test_sets_that_need_val_images_say_nothing_without_them(stored: Any) -> None:
    sets, logits = stored
    results, _ = SUITE.measure({name: sets[name] for name in ("imagenet_r", "imagenet_o")}, Stored(logits, 64))
    assert set(results) == {"imagenet_r"}
    assert "difference" not in results["imagenet_r"]
    assert "ImageNet-O" not in describe(results)

"""Choosing images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.data.splits import stratified_split, stratified_subset
from reldrop.utils.errors import ReldropError
from tests.helpers.images import folder_data, make_folders


def test_subsets_are_even_and_nested() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 4)
    chosen = {count: stratified_subset(labels, count, "subset") for count in (9, 21, 60, 84)}
    assert labels[chosen[9]].bincount().tolist() == [3, 3, 3]
    assert sorted(labels[chosen[21]].bincount().tolist()) == [4, 8, 9]
    assert labels[chosen[60]].bincount().tolist() == [28, 28, 4]
    assert chosen[84].tolist() == list(range(84))
    assert set(chosen[9].tolist()) <= set(chosen[21].tolist()) <= set(chosen[60].tolist())
    assert stratified_subset(labels, None, "subset").tolist() == list(range(84))
    assert stratified_subset(labels, 9, "subset").tolist() == chosen[9].tolist() == sorted(chosen[9].tolist())


def test_held_out_images_are_the_same_share_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)[
        torch.randperm(90, generator=torch.Generator().manual_seed(0))
    ]
    stay, out = stratified_split(labels, 18, "validation")
    assert labels[out].bincount().tolist() == [10, 6, 2]
    assert sorted([*stay.tolist(), *out.tolist()]) == list(range(90))


def test_validation_is_taken_before_the_subset(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some", train=10)
    plain = folder_data(base, validation=0.2)
    small = folder_data(base, validation=0.2, subset=6, test_subset=3)
    assert (len(plain.train), len(plain.validation), len(plain.test)) == (24, 6, 6)
    assert plain.validation.labels.bincount().tolist() == [2, 2, 2]
    assert (len(small.train), len(small.test)) == (6, 3)
    assert torch.equal(plain.validation.images, small.validation.images)
    assert len(torch.cat([plain.train.images, plain.validation.images]).unique(dim=0)) == 30


def test_only_chosen_images_are_decoded(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some")
    chosen = folder_data(base, subset=6, memory_gb=0).train.images.paths
    for path in (base / "train").rglob("*.png"):
        if str(path) not in chosen:
            path.write_bytes(b"")
    assert len(folder_data(base, subset=6).train) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": 16}, "subset=16 must be a whole number of images from 1 to the 15 there are"),
        ({"subset": 0}, "subset=0 must be at least 1"),
        ({"subset": 2.5}, "subset=2.5 must be a whole number"),
        ({"test_subset": 7}, "test_subset=7 must be a whole number of images from 1 to the 6"),
        ({"validation": 1.0}, "validation=1.0 must be below 1"),
        ({"validation": -0.1}, "validation=-0.1 must be at least 0"),
        ({"validation": 0.01}, "validation=0.01 of 15 training images leaves no image on one side"),
        ({"size": 0}, "size=0 must be at least 1"),
    ],
)
def test_settings_out_of_range_are_explained(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    base = make_folders(tmp_path / "some")
    with pytest.raises(ReldropError, match=message):
        folder_data(base, **settings)

"""Crops."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as reference

from reldrop.data.images.crops import CenterCrop
from reldrop.data.images.crops import RandomResizedCrop as Crop
from reldrop.data.images.decoding import decode
from reldrop.utils.seeding import derive_seed
from tests.helpers.imagenet import CROP, picture

FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(64, 48), (31, 90), (300, 211), (20, 20)])
def test_evaluation_crops_equal_torchvisions(tmp_path: Path, size: tuple[int, int], interpolation: str) -> None:
    picture(0, size).save(tmp_path / "image.JPEG")
    image = Image.open(tmp_path / "image.JPEG")
    expected = reference.center_crop(reference.resize(image, 32, FILTERS[interpolation]), 28)
    actual = decode(str(tmp_path / "image.JPEG"), 28, CenterCrop(32, interpolation))
    assert np.array_equal(actual.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_training_crops_equal_a_crop_that_is_resized(tmp_path: Path, mode: str, interpolation: str) -> None:
    path = tmp_path / "image.JPEG"
    picture(0, (64, 48)).convert(mode).save(path)
    image = Image.open(path).convert("RGB")
    crop = Crop((0.08, 1), (0.75, 1.25), interpolation)
    for seed in range(20):
        left, top, right, bottom = crop.box(image, seed)
        expected = reference.resized_crop(
            image, top, left, bottom - top, right - left, [40, 40], FILTERS[interpolation], antialias=True
        )
        actual = decode(str(path), 40, partial(crop, seed=seed))
        assert np.array_equal(actual.transpose(1, 2, 0), np.asarray(expected))


def test_large_files_are_decoded_smaller_without_moving_the_crop(tmp_path: Path) -> None:
    path = tmp_path / "image.JPEG"
    picture(0, (803, 601)).save(path, quality=95)
    whole = Image.open(path).convert("RGB")
    widths = set()
    for seed in range(30):
        with Image.open(path) as image:
            actual = np.asarray(CROP(image, 100, seed), float)
            widths.add(image.width)
        expected = whole.crop(CROP.box(whole, seed)).resize((100, 100), Image.Resampling.BILINEAR)
        assert np.abs(actual - np.asarray(expected, float)).mean() < 1.5
    assert widths == {201, 402, 803}


def boxes(crop: Crop, size: tuple[int, int], count: int = 4000) -> np.ndarray:
    image, first = Image.new("RGB", size), derive_seed(0, "law")
    found = np.array([crop.box(image, first + index) for index in range(count)])
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= size).all()
    assert (found[:, 2:] > found[:, :2]).all()
    return found


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of Kolmogorov and Smirnov, between two samples."""
    both = np.concatenate([one, other])
    ranks = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (one, other)]
    return np.abs(ranks[0] - ranks[1]).max()


def test_boxes_have_uniform_areas_log_uniform_ratios_and_uniform_places() -> None:
    crop = Crop((0.1, 0.3), (0.5, 2.0), "bilinear")  # all of these fit in
    left, top, right, bottom = boxes(crop, (1000, 1000)).T
    width, height = right - left, bottom - top
    grid = (np.arange(4000) + 0.5) / 4000
    limit = 1.63 / math.sqrt(4000)  # at a level of 1 %
    assert distance((width * height / 1e6 - 0.1) / 0.2, grid) < limit
    assert distance(np.log(width / height) / math.log(4) + 0.5, grid) < limit
    assert distance((left + 0.5) / (1001 - width), grid) < limit
    assert distance((top + 0.5) / (1001 - height), grid) < limit
    assert (
        np.abs(
            np.corrcoef([width * height, width / height, left / (1001 - width), top / (1001 - height)]) - np.eye(4)
        ).max()
        < 0.06
    )


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (900, 200)])
def test_boxes_have_the_law_of_torchvision(size: tuple[int, int]) -> None:
    ours = boxes(CROP, size)
    blank = torch.empty(1, size[1], size[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in drawn])
    limit = 1.63 * math.sqrt(2 / 4000)
    for features in (lambda box: box[:, 0], lambda box: box[:, 1], lambda box: (box[:, 2:] - box[:, :2]).prod(1)):
        assert distance(features(ours), features(theirs)) < limit


@pytest.mark.parametrize(("size", "box"), [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506))])
def test_the_center_is_taken_where_no_box_fits(size: tuple[int, int], box: tuple[int, ...]) -> None:
    crop = Crop((0.5, 1), (3 / 4, 4 / 3), "bilinear")
    assert (boxes(crop, size, 50) == box).all()

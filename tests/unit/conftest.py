"""Fixtures of this folder."""

from pathlib import Path

import pytest

from tests.helpers.imagenet import WNIDS, picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of seven training and two test images of different sizes, no two the same."""
    base = tmp_path / "imagenet"
    for split, count in (("train", 7), ("val", 2)):
        for label, wnid in enumerate(WNIDS[:2]):
            (base / split / wnid).mkdir(parents=True)
            for index in range(count):
                image = picture(100 * label + index, (40 + 3 * index, 30 + label))
                image.save(base / split / wnid / f"{index}.JPEG")
    return base

"""Fixtures of this folder."""

from pathlib import Path

import pytest

from tests.helpers.imagenet import make_train


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Three classes of four training and two test images, in class folders."""
    return make_train(make_train(tmp_path / "imagenet"), 2, "val")

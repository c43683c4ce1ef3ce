"""Data sets of one's own: a reader and a decorator."""

import inspect
from pathlib import Path

import pytest
import torch

from reldrop.data import Files, ImageData, ImageListing, ImageSplit, image_dataset
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from reldrop.utils.types import Count, check_settings
from tests.helpers.images import RGB, machine, make_folders


@image_dataset
def flat(folder: str, every: Count = 1, flip: bool = True, machine: Machine = Machine()) -> ImageListing:
    """Read images of two classes from one folder."""
    paths = [str(path) for path in sorted(machine.root.joinpath(folder).glob("*.png"))][::every]
    files = Files(paths, torch.arange(len(paths)) % 2)
    return ImageListing("flat", ("even", "odd"), files, files, "one folder", size=8)


@image_dataset
def generated() -> ImageListing:
    images = ImageSplit(torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 4, 4), torch.arange(20) % 2)
    return ImageListing("generated", ("even", "odd"), images, images, "generated", size=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folders(tmp_path / "made", classes=1, train=12)
    (tmp_path / "made" / "train" / "class0").rename(tmp_path / "mine")
    return tmp_path


def test_common_settings_are_applied_behind_any_reader(root: Path) -> None:
    images = flat(folder="mine", subset=4, test_subset=6, validation=0.5, machine=machine(root), **RGB)
    assert (images.name, images.classes, images.source) == ("flat", ("even", "odd"), "one folder")
    assert (len(images.train), len(images.validation), len(images.test), images.flip) == (4, 6, 6, True)
    assert images.train.labels.bincount().tolist() == [2, 2]
    streamed = flat(folder="mine", every=3, name="other", flip=False, machine=machine(root, memory_gb=0), **RGB)
    assert (streamed.name, len(streamed.train), streamed.flip) == ("other", 4, False)
    assert not isinstance(streamed.train.images, torch.Tensor)
    chosen = generated(subset=6, mean=[0.5], std=[0.5])
    assert torch.equal(chosen.train.images[:, 0, 0, 0] % 2, chosen.train.labels)


def test_settings_are_those_of_the_reader_and_the_common_ones() -> None:
    signature = inspect.signature(flat)
    assert list(signature.parameters)[:4] == ["folder", "every", "flip", "machine"]
    assert {"name", "mean", "std", "crop_padding", "subset", "test_subset", "validation"} < set(signature.parameters)
    assert signature.return_annotation is ImageData
    assert flat.__doc__ == "Read images of two classes from one folder."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every=0 must be at least 1"),
        ({"flip": "no"}, "flip='no' must be true or false"),
        ({"subset": 1.5}, "subset=1.5 must be a whole number or null"),
        ({"folder": 3}, "folder=3 must be text"),
    ],
)
def test_settings_of_both_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        flat(**{"folder": "mine", **RGB, **settings})
    with pytest.raises(ReldropError, match=f"dataset.{message}"):
        check_settings(settings, flat, "dataset")
    with pytest.raises(ReldropError, match=r"dataset.folderr is not a setting; did you mean dataset.folder\?"):
        check_settings({"folderr": "mine"}, flat, "dataset")

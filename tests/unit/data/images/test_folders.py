"""Image folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reldrop import data
from reldrop.utils.errors import ReldropError
from tests.helpers.images import RGB, folder_data, machine, make_folders, picture


def test_image_folder_lists_classes_and_files_sorted(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some", classes=2, train=2)
    nested = base / "train" / "class1" / "more"
    nested.mkdir()
    picture(1).save(nested / "x.JPG")
    picture(2).save(base / "train" / "class0" / "Z.JpEg")
    for hidden in (".hidden.png", "notes.txt"):
        (base / "train" / "class0" / hidden).write_text("not an image")
    (base / "train" / ".cache").mkdir()
    images = folder_data(base)
    assert images.name == "some"
    assert images.classes == ("class0", "class1")
    assert (images.num_classes, images.channels, images.size) == (2, 3, 8)
    assert images.source == "image files in folder some"
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    paths = folder_data(base, memory_gb=0).train.images.paths
    assert [Path(path).name for path in paths] == ["0.png", "1.png", "Z.JpEg", "0.png", "1.png", "x.JPG"]
    assert np.array_equal(images.train.images[0].permute(1, 2, 0), Image.open(paths[0]))


@pytest.mark.parametrize("split", ["test", "val", "validation"])
def test_image_folder_takes_its_test_images_where_they_are(tmp_path: Path, split: str) -> None:
    base = make_folders(tmp_path / "some")
    (base / "test").rename(base / split)
    images = data.image_folder(folder=str(base), name="mine", size=8, machine=machine(Path("nowhere")), **RGB)
    assert (images.name, len(images.test)) == ("mine", 6)


def test_mistakes_in_folders_are_explained(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some")
    (base / "test" / "stray").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/test/stray has no images; add some"):
        folder_data(base)
    picture(0).save(base / "test" / "stray" / "0.png")
    with pytest.raises(ReldropError, match=f"{base}/test has images of stray, a class without training images"):
        folder_data(base)
    (base / "train" / "stray").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/train/stray has no images; add some"):
        folder_data(base)
    empty = tmp_path / "empty"
    (empty / "train").mkdir(parents=True)
    with pytest.raises(ReldropError, match=f"{empty}/train has no class folders"):
        folder_data(empty)
    (empty / "train").rename(empty / "val")
    with pytest.raises(ReldropError, match=f"{empty} has val/ but no train/; add train/CLASS"):
        folder_data(empty)
    with pytest.raises(
        ReldropError, match=rf"folder of images not found: looked in {tmp_path}/none \(no such folder\)"
    ):
        folder_data(tmp_path / "none")

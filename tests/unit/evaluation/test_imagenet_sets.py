"""Classes and images."""

from pathlib import Path

import pytest
import timm

from reldrop.evaluation import imagenet_classes
from reldrop.evaluation import imagenet_sets as image_sets
from reldrop.utils.errors import ReldropError
from tests.helpers.zero_shot import SUITE, picture, write_images, write_sets


def test_class_lists() -> None:
    assert len(set(imagenet_classes.synsets())) == 1000
    assert list(imagenet_classes.synsets()) == sorted(imagenet_classes.synsets())
    a, r, o = (
        set(imagenet_classes.class_indices(name).tolist()) for name in ("imagenet_a", "imagenet_r", "imagenet_o")
    )
    assert (len(a), len(r), len(o)) == (200, 200, 200)
    assert (len(a & o), len(a & r), len(r & o)) == (59, 86, 36)
    for name in ("imagenet_a", "imagenet_r"):  # the indices that timm ships beside the names
        listed = (Path(timm.data.__file__).parent / "_info" / f"{name}_indices.txt").read_text().split()
        assert imagenet_classes.class_indices(name).tolist() == [int(index) for index in listed]


def test_images_are_labelled_by_the_1000_classes(tmp_path: Path) -> None:
    write_sets(tmp_path)
    sets, missing = SUITE.find(tmp_path)
    assert missing == []
    assert {name: len(files) for name, files in sets.items()} == {
        **dict.fromkeys(imagenet_classes.SETS, 6),
        "imagenet_val": 3,
    }
    for files in sets.values():
        assert [imagenet_classes.synsets()[label] for label in files.labels] == [
            Path(path).parent.name for path in files.paths
        ]
    limited, _ = SUITE.find(tmp_path, limit=3)
    assert sorted(limited["imagenet_a"].labels.tolist()) == imagenet_classes.class_indices("imagenet_a")[:3].tolist()


def test_val_images_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet" / "val"
    folder.mkdir(parents=True)
    for number in range(3):
        picture(number).save(folder / f"ILSVRC2012_val_0000000{number + 1}.png")
    with pytest.raises(ReldropError, match="no class folders, and no file of labels"):
        SUITE.find(tmp_path)
    labels = folder.parent / "imagenet_2012_validation_synset_labels.txt"
    labels.write_text("n01443537\nn01440764\nn15075141\n")
    assert SUITE.find(tmp_path)[0]["imagenet_val"].labels.tolist() == [1, 0, 999]
    labels.write_text("n01443537\nn01440764\nn00000000\n")
    with pytest.raises(ReldropError, match="n00000000, which is none of the 1,000"):
        SUITE.find(tmp_path)


def test_images_that_are_missing_or_do_not_belong(tmp_path: Path) -> None:
    with pytest.raises(ReldropError, match="none of imagenet_a"):
        SUITE.find(tmp_path)
    write_images(tmp_path / "imagenet-a", imagenet_classes.class_wnids("imagenet_a")[:2])
    assert SUITE.find(tmp_path)[1] == ["imagenet_r", "imagenet_o", "imagenet_val"]
    stranger = next(
        wnid for wnid in imagenet_classes.synsets() if wnid not in imagenet_classes.class_wnids("imagenet_a")
    )
    write_images(tmp_path / "imagenet-a", (stranger,))
    with pytest.raises(ReldropError, match=f"{stranger} is none of the 200 classes of ImageNet-A"):
        image_sets.find_set(tmp_path / "imagenet-a", "imagenet_a")

"""Folders, labels and classes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop import data
from reldrop.utils.errors import ReldropError
from tests.helpers.imagenet import SMALL, WNIDS, greys, imagenet, make_train, plain, shade
from tests.helpers.images import machine


def make_flat_val(base: Path, labels: tuple[int, ...] = (2, 0, 1, 1, 0)) -> list[str]:
    (base / "val").mkdir(parents=True, exist_ok=True)
    for index, label in enumerate(labels, 1):
        plain(label).save(base / "val" / f"ILSVRC2012_val_{index:08}.JPEG")
    return [WNIDS[label] for label in labels]


def test_class_folders(base: Path) -> None:
    images = imagenet(base)
    assert images.classes == WNIDS
    assert (images.size, images.channels, images.source) == (16, 3, "image files in folder imagenet")
    assert images.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    small = imagenet(base, subset=6, test_subset=3, validation=0.25)
    assert (len(small.train), len(small.validation), len(small.test)) == (6, 3, 3)
    batch = next(small.eval_batches("validation", batch_size=8))
    assert greys([batch])[0] == [shade(label) for label in (0, 1, 2)]


def ground_truth(base: Path, wnids: list[str]) -> None:
    """Ids in an order that is not alphabetical, as the devkit's, where a kit fox is the first."""
    kit = base / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    ids = {"n02119789": 1, "n01443537": 2, "n01440764": 3, "n09999999": 4}
    (kit / "map_clsloc.txt").write_text("".join(f"{wnid} {number} a_name\n" for wnid, number in ids.items()))
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{ids[wnid]}\n" for wnid in wnids))


def synset_labels(base: Path, wnids: list[str]) -> None:
    (base / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(wnids) + "\n")


def solution(base: Path, wnids: list[str]) -> None:
    rows = [f"ILSVRC2012_val_{index:08},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for index, wnid in enumerate(wnids, 1)]
    (base / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))


@pytest.mark.parametrize("write", [ground_truth, synset_labels, solution])
@pytest.mark.parametrize("outside", [False, True])
def test_a_flat_val_folder_with_its_labels_in_a_file(tmp_path: Path, write: Any, outside: bool) -> None:
    base = make_train(tmp_path / "imagenet")
    write(tmp_path if outside else base, make_flat_val(base))
    images = imagenet(base)
    assert images.test.labels.tolist() == [2, 0, 1, 1, 0]
    assert greys(images.eval_batches("test", batch_size=5)) == [[shade(label) for label in (2, 0, 1, 1, 0)]]
    chosen = imagenet(base, classes=[WNIDS[2], WNIDS[1]])
    assert chosen.classes == WNIDS[1:]
    assert chosen.test.labels.tolist() == [1, 0, 0]
    assert greys(chosen.eval_batches("test", batch_size=5)) == [[shade(label) for label in (2, 1, 1)]]


def test_files_of_labels_with_a_byte_order_mark(tmp_path: Path) -> None:
    base = make_train(tmp_path / "imagenet")
    synset_labels(base, make_flat_val(base))
    labels = base / "imagenet_2012_validation_synset_labels.txt"
    labels.write_text("\ufeff" + labels.read_text())
    assert imagenet(base).test.labels.tolist() == [2, 0, 1, 1, 0]


def test_files_of_labels_by_name(tmp_path: Path) -> None:
    base = make_train(tmp_path / "imagenet")
    ground_truth(base, make_flat_val(base))
    (base / "ILSVRC2012_devkit_t12").rename(tmp_path / "kit")
    with pytest.raises(ReldropError, match=r"labels of the val images not found: looked .* set dataset.val_labels"):
        imagenet(base)
    truth, ids = "kit/data/ILSVRC2012_validation_ground_truth.txt", tmp_path / "kit" / "data" / "map_clsloc.txt"
    with pytest.raises(ReldropError, match=r"which WNIDs the ids in .* are not found: .* set dataset.synset_ids"):
        imagenet(base, val_labels=truth)
    assert imagenet(base, val_labels=truth, synset_ids=str(ids)).test.labels.tolist() == [2, 0, 1, 1, 0]


def test_mistakes_in_files_of_labels_are_explained(tmp_path: Path) -> None:
    base = make_train(tmp_path / "imagenet")
    wnids = make_flat_val(base)
    synset_labels(base, wnids[:-1])
    with pytest.raises(ReldropError, match=r"labels.txt has 4 labels for 5 images; it needs a line for each"):
        imagenet(base)
    synset_labels(base, ["n00000001", *wnids[1:]])
    with pytest.raises(ReldropError, match="val has images of n00000001, a class without training images"):
        imagenet(base)
    (base / "imagenet_2012_validation_synset_labels.txt").unlink()
    solution(base, wnids[:-1])
    with pytest.raises(ReldropError, match=r"solution.csv has no label for the image ILSVRC2012_val_00000005"):
        imagenet(base)
    (base / "LOC_val_solution.csv").unlink()
    ground_truth(base, wnids)
    ids = base / "ILSVRC2012_devkit_t12" / "data" / "map_clsloc.txt"
    ids.write_text("n02119789 1 kit_fox\n")
    with pytest.raises(ReldropError, match=r"ground_truth.txt has the id 3, which no line"):
        imagenet(base)
    ids.write_text("n02119789 1 kit_fox\nn01443537 goldfish\n")
    with pytest.raises(
        ReldropError, match=r"map_clsloc.txt, line 2: 'n01443537 goldfish' is not a WNID and its ILSVRC"
    ):
        imagenet(base)


def test_choices_of_classes(base: Path) -> None:
    (base.parent / "chosen.txt").write_text(f"{WNIDS[2]} kit fox\n\n{WNIDS[0]}\n")
    for classes in (list(reversed(WNIDS[::2])), "chosen.txt", str(base.parent / "chosen.txt")):
        images = imagenet(base, classes=classes)
        assert images.classes == WNIDS[::2]
        assert images.test.labels.tolist() == [0, 0, 1, 1]
        assert greys(images.eval_batches("test", batch_size=9)) == [[shade(label) for label in (0, 0, 2, 2)]]
    with pytest.raises(ReldropError, match=f"classes=n00000007 has no images in {base}/train"):
        imagenet(base, classes=[WNIDS[0], "n00000007"])
    with pytest.raises(ReldropError, match=r"classes=\[\] must be some WNIDs"):
        imagenet(base, classes=[])
    with pytest.raises(ReldropError, match=f"cannot read {base.parent}/none.txt"):
        imagenet(base, classes="none.txt")


def test_val_alone(base: Path) -> None:
    for path in sorted((base / "train").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (base / "train").rmdir()
    with pytest.raises(ReldropError, match=r"not found: .* for train/WNID and val \(.*dataset.train_split=val trains"):
        imagenet(base)
    images = imagenet(base, train_split="val")
    assert (len(images.train), len(images.test), images.classes) == (6, 6, WNIDS)


def test_folders_are_looked_through_in_order(base: Path) -> None:
    settings = {**SMALL, "machine": machine(base.parent)}
    nested = base.parent / "ILSVRC" / "Data" / "CLS-LOC"
    nested.parent.mkdir(parents=True)
    base.rename(nested)
    found = data.imagenet(folders=["imagenet", "ILSVRC/Data/CLS-LOC", "."], **settings)
    assert found.source == "image files in folder CLS-LOC"
    with pytest.raises(
        ReldropError, match=r"ImageNet not found: looked in .*imagenet \(no such folder\).*RELDROP_DATA"
    ):
        data.imagenet(folders=["imagenet"], **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_resize": 15}, "eval_resize=15 must be at least size=16"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"interpolation": "nearest"}, "interpolation='nearest' must be 'bilinear' or 'bicubic'"),
        (
            {"crop_scale": [0.5, 1.5]},
            r"crop_scale=\[0.5, 1.5\] must be at most 1 at index 1",
        ),
        ({"crop_scale": [0.5]}, r"crop_scale=\[0.5\] must be a list of at least 2 values"),
        ({"crop_ratio": [2, 1]}, r"crop_ratio=\[2, 1\] must have the smaller number first"),
        ({"train_split": "test"}, "train_split='test' must be 'train' or 'val'"),
        ({"on_decode_error": "ignore"}, "on_decode_error='ignore' must be 'error' or 'skip'"),
    ],
)
def test_settings_out_of_range_are_explained(base: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        imagenet(base, **settings)


def test_mistakes_in_folders_are_explained(base: Path) -> None:
    plain(0).save(base / "val" / "n01440764" / "more.png")
    (base / "train" / "n05").mkdir()
    with pytest.raises(ReldropError, match=f"{base}/train/n05 has no images; add some"):
        imagenet(base)
    (base / "train" / "n05").rename(base / "val" / "n05")
    plain(0).save(base / "val" / "n05" / "0.png")
    with pytest.raises(ReldropError, match=f"{base}/val has images of n05, a class without training images"):
        imagenet(base)
    assert len(imagenet(base, classes=list(WNIDS)).test) == 7


def test_real_images() -> None:
    try:
        images = data.imagenet(
            folders=["imagenet_sample"],
            flip=True,
            mean=[0.485, 0.456, 0.406],
            std=[0.229, 0.224, 0.225],
            train_split="val",
            subset=200,
            test_subset=100,
            machine=machine(Path(os.environ.get("RELDROP_DATA", "")), workers=1),
        )
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip("the environment variable RELDROP_DATA leads to no imagenet_sample")
    assert images.num_classes == 1000
    for batches, count in (
        (images.train_batches(0, batch_size=100, seed=0), 200),
        (images.eval_batches("test", batch_size=100), 100),
    ):
        inputs, targets = map(torch.cat, zip(*(batch[:2] for batch in batches), strict=True))
        assert inputs.shape == (count, 3, 224, 224)
        assert len(targets.unique()) == count
        assert inputs.mean().abs() < 0.3
        assert 0.8 < inputs.std() < 1.3

"""Cifar."""

import hashlib
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from reldrop import data
from reldrop.data import ImageData
from reldrop.utils.errors import ReldropError
from tests.helpers.images import RGB, machine, make_folders


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small cifar-10-batches-py; the checksums that torchvision expects are those of its files."""
    folder = tmp_path / "root" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch() -> dict[str, Any]:
        return {"data": draws.integers(256, size=(20, 3072), dtype=np.uint8), "labels": [*range(10)] * 2}

    meta = write("batches.meta", {"label_names": [f"name{label}" for label in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{part}", batch()) for part in (1, 2)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return folder.parent


def cifar(root: Path, **settings: Any) -> ImageData:
    here = machine(root, download=settings.pop("download", False))
    return data.cifar(machine=here, **{"num_classes": 10, **RGB, **settings})


def test_official_cifar(archive: Path) -> None:
    images = cifar(archive)
    assert (len(images.train), len(images.test), images.size, images.channels) == (40, 20, 32, 3)
    assert images.classes[3] == "name3"
    assert images.source == "official archive"
    raw = pickle.loads((archive / CIFAR10.base_folder / "data_batch_2").read_bytes())
    assert np.array_equal(images.train.images[20], raw["data"][0].reshape(3, 32, 32))
    assert len(cifar(archive, subset=10, test_subset=5, validation=0.5).validation) == 20


def test_packed_official_cifar_is_unpacked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cifar(archive)
    packed = archive / "cifar10" / CIFAR10.filename
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive / CIFAR10.base_folder, CIFAR10.base_folder)
    (archive / CIFAR10.base_folder).rename(archive / "elsewhere")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    assert torch.equal(cifar(archive).train.images, expected.train.images)
    assert (packed.parent / CIFAR10.base_folder).is_dir()


def test_damaged_official_cifar(archive: Path) -> None:
    with (archive / CIFAR10.base_folder / "test_batch").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ReldropError, match=f"official archive in {archive} is damaged or incomplete"):
        cifar(archive)


def test_damaged_packed_official_cifar(tmp_path: Path) -> None:
    (tmp_path / CIFAR10.filename).write_bytes(b"half of it")
    with pytest.raises(ReldropError, match=f"official archive in {tmp_path} is damaged or incomplete"):
        cifar(tmp_path)


def test_cifar_from_folders_and_the_archive_before_them(tmp_path: Path, archive: Path) -> None:
    make_folders(archive / "cifar10_jpeg", classes=10, train=2, test=1, size=32)
    assert cifar(archive).source == "official archive"
    (archive / CIFAR10.base_folder).rename(tmp_path / "elsewhere")
    images = cifar(archive)
    assert (len(images.train), len(images.test), images.size) == (20, 10, 32)
    assert images.source == "image files in folder cifar10_jpeg"


def test_cifar_with_the_wrong_number_of_classes(tmp_path: Path) -> None:
    make_folders(tmp_path / "cifar10", classes=3)
    with pytest.raises(ReldropError, match="cifar10/train has 3 class folders where CIFAR-10 has 10"):
        cifar(tmp_path)


def test_cifar_not_found(tmp_path: Path) -> None:
    with pytest.raises(ReldropError) as caught:
        cifar(tmp_path)
    for part in (
        f"CIFAR10 not found: looked in {tmp_path}, {tmp_path}/cifar10 (no such folder), {tmp_path}/cifar10_jpeg",
        "cifar-10-batches-py",
        "machine.download=true",
        CIFAR10.url,
        "data_dir=PATH",
        "RELDROP_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(ReldropError, match=r"CIFAR100 not found: .*cifar100_jpeg .*cifar-100-python.tar.gz"):
        cifar(tmp_path, num_classes=100)
    with pytest.raises(ReldropError, match="num_classes=20 must be 10 or 100"):
        cifar(tmp_path, num_classes=20)


def test_cifar_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: CIFAR10) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(ReldropError, match=r"looked in .*; and downloading it failed \(no route to host\): put https"):
        cifar(tmp_path, download=True)

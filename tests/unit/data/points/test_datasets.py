"""Datasets."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from reldrop import data
from reldrop.data import PointData
from reldrop.data.points.files import h5_labels, read_h5
from reldrop.data.points.preprocessing import sample
from reldrop.utils.errors import ReldropError
from tests.helpers.clouds import CUBE, cloud, edit, modelnet, settings_of


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    """The HDF5 form of ModelNet with three classes and two files of training clouds."""
    base = tmp_path / "root" / "hdf5"
    base.mkdir(parents=True)
    (base / "shape_names.txt").write_text("a\nbig_b\nc\n")
    for split, files in (("train", 2), ("test", 1)):
        names = [f"ply_data_{split}{number}.h5" for number in range(files)]
        (base / f"{split}_files.txt").write_text("".join(f"data/modelnet40_ply_hdf5_2048/{name}\n" for name in names))
        for number, name in enumerate(names):
            values = np.stack([cloud(100 * number + row) for row in range(20)])
            with h5py.File(base / name, "w") as file:
                file.create_dataset("data", data=values[..., :3].astype(np.float32), compression="gzip")
                file.create_dataset("normal", data=values[..., 3:].astype(np.float32), compression="gzip")
                file.create_dataset("label", data=np.arange(20, dtype=np.uint8)[:, None] % 3)
    return base


def test_h5(h5: Path) -> None:
    clouds = modelnet(h5)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (40, 20, ("a", "big_b", "c"))
    assert clouds.source == "HDF5 files in folder hdf5"
    assert clouds.train.labels.tolist() == [row % 3 for row in range(20)] * 2
    assert np.allclose(clouds.train.points[27], sample([cloud(107)], 16)[0][0], atol=1e-6)
    two = modelnet(h5, classes=["c", "big_b"])
    assert two.train.labels.tolist()[:4] == [0, 1, 0, 1]
    assert torch.equal(two.train.points, clouds.train.points[clouds.train.labels > 0])
    path = str(h5 / "ply_data_train1.h5")
    assert [len(values) for values in read_h5(path, [3, 7], False)] == [40, 40]
    assert h5_labels(path).dtype == np.int64


def test_lists_of_another_system(h5: Path) -> None:
    expected = modelnet(h5).train.points
    files = h5 / "train_files.txt"
    files.write_text("\ufeff" + files.read_text().replace("data/", "C:\\data\\").replace("/", "\\"))
    assert torch.equal(modelnet(h5).train.points, expected)


def test_mistakes_in_h5_are_explained(h5: Path) -> None:
    path = h5 / "ply_data_train1.h5"
    with h5py.File(path, "a") as file:
        del file["normal"]
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5 has no normals; set dataset.normals=false"):
        modelnet(h5)
    assert modelnet(h5, normals=False).channels == 3
    with h5py.File(path, "a") as file:
        file["data"][4, 6, 1] = np.nan
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5\[4\], row 7: .*nan"):
        modelnet(h5, normals=False)
    with h5py.File(path, "a") as file:
        file["label"][2] = 9
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5\[2\]: 'label 9' is no class; known are a, big_b, c"):
        modelnet(h5)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ReldropError, match=r"cannot read .*ply_data_train1.h5: .*; unpack or download it again"):
        modelnet(h5)
    path.unlink()
    with pytest.raises(ReldropError, match=r"train_files.txt, line 2: there is no .*ply_data_train1.h5"):
        modelnet(h5)


def test_archive_of_meshes(tmp_path: Path) -> None:
    base = tmp_path / "root" / "ModelNet40"
    for name in ("a", "big_b"):
        for split, count in (("train", 2), ("test", 1)):
            (base / name / split).mkdir(parents=True)
            for number in range(count):
                (base / name / split / f"{name}_{split}{number}.off").write_text(f"OFF{CUBE}")
    (base / "README.txt").write_text("not a class")
    (base / "a" / "train" / ".DS_Store").write_text("no mesh")
    clouds = modelnet(base)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (4, 2, ("a", "big_b"))
    assert clouds.source == "meshes in folder ModelNet40"
    assert torch.allclose(clouds.train.points[..., 3:].norm(dim=-1), torch.ones(4, 16))
    assert modelnet(base, classes=["big_b"]).train.labels.tolist() == [0, 0]
    (base / "big_b" / "test" / "big_b_test0.off").unlink()
    with pytest.raises(
        ReldropError, match=r"ModelNet40/big_b/test has no clouds; add some \(.off\) or remove the class"
    ):
        modelnet(base)


def read_shapenet(base: Path) -> PointData:
    return data.shapenet(folders=["shapenet"], name="shapenet", points=16, **settings_of(base.parent, {}))


def test_shapenet(shapenet: Path) -> None:
    clouds = read_shapenet(shapenet)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (8, 4, ("Airplane", "Bag"))
    assert clouds.train.labels.tolist() == [1, 0] * 4
    assert np.allclose(clouds.train.points[0], sample([cloud(0, columns=7)[:, :6]], 16)[0][0])


def test_mistakes_in_shapenet_are_explained(shapenet: Path) -> None:
    (shapenet / "02773838" / "val0.txt").unlink()
    with pytest.raises(ReldropError, match=r"shuffled_val_file_list.json, entry 1: there is no .*/02773838/val0.txt"):
        read_shapenet(shapenet)
    lists = shapenet / "train_test_split" / "shuffled_train_file_list.json"
    edit(lists, "shape_data/02691156/train0", "shape_data/7/train0")
    with pytest.raises(
        ReldropError, match=r"shuffled_train_file_list.json, entry 2: '7' is no class; known are Airplane, Bag"
    ):
        read_shapenet(shapenet)
    for content, message in (("[1", "cannot read .*shuffled_train_file_list.json"), ("[1]", "must be a list of names")):
        lists.write_text(content)
        with pytest.raises(ReldropError, match=message):
            read_shapenet(shapenet)
    (shapenet / "synsetoffset2category.txt").write_text("Airplane\n")
    with pytest.raises(ReldropError, match=r"synsetoffset2category.txt must have a class a line"):
        read_shapenet(shapenet)

"""Point folder."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reldrop import data
from reldrop.data import PointData
from reldrop.data.points.preprocessing import sample
from reldrop.utils.errors import ReldropError
from tests.helpers.clouds import CUBE, FACES, XYZ, cloud, edit, settings_of, write_ply, write_text


def point_folder(base: Path, **settings: Any) -> PointData:
    return data.point_folder(folder=base.name, **{"points": 16} | settings_of(base.parent, settings))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Clouds of two classes, in files of all kinds."""
    base = tmp_path / "root" / "own"
    for label, name in enumerate(("cup", "tea_pot")):
        for index in range(5):
            write_text(base / name / f"{name}_{index}.txt", cloud(10 * label + index))
        write_text(base / name / "spaces.xyz", cloud(10 * label + 5), " ")
        np.save(base / name / "array.npy", cloud(10 * label + 6))
        (base / name / "mesh.off").write_text(f"OFF\n{CUBE}")
        write_ply(base / name / "mesh.ply", f"element vertex 8\n{XYZ}{FACES}", CUBE.partition("\n")[2])
        (base / name / "notes.md").write_text("no cloud")
        (base / name / ".hidden.txt").write_text("no cloud")
        (base / name / "spare").mkdir()
    (base / "own_train.txt").write_text("cup/array\ncup_1\ntea_pot_0\n\ntea_pot/mesh\n")
    (base / "own_test.txt").write_text("cup/cup_0.txt\ntea_pot_3\n")
    return base


def test_point_folder_with_a_fixed_split(own: Path) -> None:
    clouds = point_folder(own)
    assert (clouds.name, clouds.classes) == ("own", ("cup", "tea_pot"))
    assert (len(clouds.train), clouds.test.labels.tolist()) == (14, [0, 0, 1, 1])
    everything = torch.cat([clouds.train.points, clouds.test.points])
    assert len(everything.unique(dim=0)) == 16  # the two cubes of a kind are drawn on alike: that depends on the name
    assert torch.equal(point_folder(own, name="other").train.points, clouds.train.points)
    assert len(point_folder(own, test_share=0.5).test) == 9


def test_point_folder_with_lists(own: Path) -> None:
    clouds = point_folder(own, lists="own")
    assert (clouds.train.labels.tolist(), clouds.test.labels.tolist()) == ([0, 0, 1, 1], [0, 1])
    expected, _ = sample([cloud(6), cloud(1), cloud(10)], 16)
    assert np.allclose(clouds.train.points[:3], expected, atol=1e-6)
    edit(own / "own_train.txt", "cup_1", "cup_9")
    with pytest.raises(
        ReldropError, match=r"own_train.txt, line 2: there is no .*cup/cup_9.txt \(nor .xyz .npy .ply .off\)"
    ):
        point_folder(own, lists="own")
    with pytest.raises(ReldropError, match=r"cannot read .*your_train.txt: No such file"):
        point_folder(own, lists="your")


def test_mistakes_in_point_folders_are_explained(own: Path, tmp_path: Path) -> None:
    for share, message in (
        (0, "must be above 0"),
        (1, "must be below 1"),
        (0.01, "of 18 clouds leaves none on one side"),
    ):
        with pytest.raises(ReldropError, match=f"^test_share={share} {message}"):
            point_folder(own, test_share=share)
    (own / "vase").mkdir()
    (own / "vase" / "notes.md").write_text("no cloud")
    with pytest.raises(ReldropError, match=r"own/vase has no clouds; add some \(.txt .xyz .npy .ply .off\) or remove"):
        point_folder(own)
    (own / "vase" / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ReldropError, match=r"cannot read cloud .*own/vase/gone.txt \(No such file or directory\); replace"
    ):
        point_folder(own)
    (tmp_path / "root" / "empty").mkdir()
    with pytest.raises(ReldropError, match="empty has no class folders; it needs a folder of clouds for each class"):
        point_folder(tmp_path / "root" / "empty")


def test_split_nested_and_linked_folders(tmp_path: Path) -> None:
    base = tmp_path / "root" / "own"
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cup", "pot")):
            for index in range(count):
                write_text(base / split / name / "more" / f"{index}.txt", cloud(100 * count + 10 * label + index))
    clouds = point_folder(base)
    assert (clouds.train.labels.tolist(), clouds.test.labels.tolist()) == ([0] * 4 + [1] * 4, [0] * 2 + [1] * 2)
    (base / "train" / "cup" / "more").rename(tmp_path / "elsewhere")
    (base / "train" / "cup" / "linked").symlink_to(tmp_path / "elsewhere")
    (base / "train" / "cup" / "around").symlink_to(base / "train")
    assert torch.equal(point_folder(base).train.points, clouds.train.points)
    (tmp_path / "root" / "2024").symlink_to(base)
    assert data.point_folder(folder=2024, points=16, **settings_of(base.parent, {})).num_classes == 2


def test_a_split_is_said_in_one_line(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "reldrop")
    write_text(own / "stray.xyz", cloud(0))
    point_folder(own)
    said = [record.message for record in caplog.records if "preparing" not in record.message]
    assert said == [
        f"{own}: of 18 clouds, 4 are for testing, of each class the same share, always the same ones (dataset.test_share=0.2)",
        f"{own}: 1 clouds beside the class folders are left out, e.g. stray.xyz",
    ]


def test_lists_with_other_separators_and_unicode_forms(own: Path) -> None:
    expected = point_folder(own, lists="own").train.points
    folder = (own / "cup").rename(own / unicodedata.normalize("NFD", "café"))
    (folder / "cup_1.txt").rename(folder / unicodedata.normalize("NFD", "é.txt"))
    (own / "own_train.txt").write_text("\ufeffcafé\\array\r\ncafé\\é\r\ntea_pot_0\r\n\r\ntea_pot\\mesh\r\n")
    (own / "own_test.txt").write_text("café/cup_0.txt\ntea_pot_3\n")
    clouds = point_folder(own, lists="own")
    assert clouds.classes == ("café", "tea_pot")
    assert torch.equal(clouds.train.points, expected)

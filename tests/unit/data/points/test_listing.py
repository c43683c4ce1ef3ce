"""Listing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reldrop import data
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine
from tests.helpers.clouds import edit, modelnet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda base: (base / "a" / "a_0002.txt").unlink(), r"mini_train.txt, line 2: there is no .*mini/a/a_0002.txt"),
        (
            lambda base: edit(base / "mini_test.txt", "c_0102", "d_0102"),
            "mini_test.txt, line 6: 'd' is no class; known are a, big_b, c",
        ),
        (lambda base: (base / "mini_test.txt").write_text("\n"), "mini_test.txt lists no clouds"),
        (lambda base: (base / "mini_test.txt").unlink(), "cannot read .*mini_test.txt: No such file"),
        (lambda base: (base / "mini_shape_names.txt").unlink(), "cannot read .*mini_shape_names.txt: No such file"),
        (lambda base: (base / "mini_shape_names.txt").write_text(""), "mini_shape_names.txt is empty"),
    ],
)
def test_mistakes_in_lists_are_explained(mini: Path, change: Callable[[Path], None], message: str) -> None:
    change(mini)
    with pytest.raises(ReldropError, match=message):
        modelnet(mini)


def test_a_class_without_training_clouds_is_one_warning(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(mini / "mini_shape_names.txt", "c\n", "c\r\nd\r\n\r\ne\r\n")
    assert modelnet(mini).classes == ("a", "big_b", "c", "d", "e")
    assert [record.message for record in caplog.records] == ["mini_train.txt lists no training clouds of d, e"]


def test_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(ReldropError) as caught:
        data.modelnet(folders=["some", "none"], prefix="modelnet40", machine=Machine(tmp_path))
    for part in (
        f"modelnet40 not found: looked in {tmp_path}/some, {tmp_path}/none (no such folder) for modelnet40_train.txt",
        "ModelNet40.zip",
        "data_dir=PATH",
        "RELDROP_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(
        ReldropError, match=r"ShapeNetPart not found: looked in .*some for synsetoffset2category.txt; .*RELDROP"
    ):
        data.shapenet(folders=["some"], machine=Machine(tmp_path))
    with pytest.raises(
        ReldropError, match=r"folder of clouds not found: looked in .*none \(no such folder\); set dataset.folder"
    ):
        data.point_folder(folder="none", machine=Machine(tmp_path))

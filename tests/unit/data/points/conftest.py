"""Fixtures of this folder."""

import json
from pathlib import Path

import pytest

from tests.helpers.clouds import cloud, make_lists, write_text


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    base = tmp_path / "root" / "shapenet"
    (base / "train_test_split").mkdir(parents=True)
    (base / "synsetoffset2category.txt").write_text("Airplane\t02691156\nBag\t02773838\n")
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        entries = [f"shape_data/{synset}/{part}{i}" for i in range(count) for synset in ("02773838", "02691156")]
        (base / "train_test_split" / f"shuffled_{part}_file_list.json").write_text(json.dumps(entries))
        for seed, entry in enumerate(entries):
            write_text(base / f"{entry.removeprefix('shape_data/')}.txt", cloud(seed, columns=7), " ")
    return base


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    return make_lists(tmp_path / "root" / "mini")

"""Io."""

import json

import pytest

from reldrop.utils.io import atomic_write, write_json_atomic


def test_atomic_write_leaves_the_old_file_when_its_block_fails(tmp_path):
    path = tmp_path / "x.json"
    write_json_atomic(path, {"a": 1})
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"{", "not bytes"])
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]

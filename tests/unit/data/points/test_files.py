"""Files."""

import logging
from pathlib import Path

import numpy as np
import pytest

from reldrop.data.points.files import SURFACE_POINTS, read_cloud
from reldrop.utils.errors import ReldropError
from tests.helpers.clouds import CUBE, FACES, XYZ, cloud, modelnet, write_ply, write_text

ASCII = "ply\nformat ascii 1.0\nelement vertex {}\n" + XYZ + FACES.replace("12", "1") + "end_header\n"
POINT = "1 2 3\n"
NORMALS = "property float nx\nproperty float ny\nproperty float nz\n"


@pytest.mark.parametrize(("name", "delimiter"), [("a.txt", ","), ("a.txt", " "), ("a.xyz", "\t"), ("a.TXT", ", ")])
def test_text(tmp_path: Path, name: str, delimiter: str) -> None:
    values = cloud(0, columns=7)
    path = str(write_text(tmp_path / name, values, delimiter))
    assert np.array_equal(read_cloud(path, True), values[:, :6])
    assert np.array_equal(read_cloud(path, False), values[:, :3])


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud(0).astype(np.float32))
    assert np.array_equal(read_cloud(str(tmp_path / "a.npy"), True), cloud(0).astype(np.float32))
    for wrong in (cloud(0).reshape(-1), np.array([["a"]]), np.array([[None]])):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(ReldropError, match=r"cannot read cloud .*a.npy: .*; replace or remove it"):
            read_cloud(str(tmp_path / "a.npy"), True)


def test_ply_of_points(tmp_path: Path) -> None:
    values = cloud(0, 5).astype(np.float32)
    rows = "".join(" ".join(map(str, row)) + "\n" for row in values)
    path = write_ply(tmp_path / "a.ply", f"element vertex 5\n{XYZ}{NORMALS}", rows)
    assert np.array_equal(read_cloud(str(path), True), values)
    rows = "".join(" ".join(map(str, row[:3])) + "\n" for row in values)
    path = write_ply(tmp_path / "a.ply", f"element vertex 5\n{XYZ}", rows)
    assert np.array_equal(read_cloud(str(path), False), values[:, :3])
    with pytest.raises(ReldropError, match=r"a.ply has 3 columns where 6 are needed .*; set dataset.normals=false"):
        read_cloud(str(path), True)


@pytest.mark.parametrize("form", ["off", "glued", "ply", "quads"])
def test_meshes_are_sampled_evenly_with_the_normals_of_their_faces(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("cube.ply" if form == "ply" else "cube.off")
    if form == "ply":
        write_ply(path, f"element vertex 8\n{XYZ}{FACES}", CUBE.partition("\n")[2])
    elif form == "quads":
        corners = "\n".join(CUBE.splitlines()[1:9])
        path.write_text(f"OFF\n8 6 0\n{corners}\n4 0 3 2 1\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n")
    else:
        path.write_text(("OFF" if form == "glued" else "OFF\n") + CUBE)
    points, normals = np.split(read_cloud(str(path), True), 2, axis=1)
    assert len(points) == SURFACE_POINTS
    axis, sign = np.abs(normals).argmax(1), normals.sum(1)
    assert np.array_equal(np.abs(normals).sum(1), np.ones(len(points)))
    assert np.allclose(np.take_along_axis(points, axis[:, None], 1)[:, 0], (sign + 1) / 2)
    assert np.abs(np.bincount(2 * axis + (sign > 0)) - SURFACE_POINTS / 6).max() < 200  # 5 standard deviations
    assert points.min() >= 0
    assert points.max() <= 1
    assert np.array_equal(points, read_cloud(str(path), False))
    other = path.rename(path.with_stem("other"))
    assert not np.array_equal(points, read_cloud(str(other), False))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1,2,3,0,0,1\n1,nan,3,0,0,1\n", r"a.txt, row 2: \[1.0, nan, 3.0, .*\] is not finite"),
        ("a.txt", "1 2 3 0 0 1\n4 5 6 0 0 -inf\n", "a.txt, row 2: .* is not finite"),
        ("a.txt", "1 2 3 0 0 1\n4 5 1e30 0 0 1\n", "a.txt, row 2: .* is not finite, or too large"),
        (
            "a.txt",
            "1,2,3\n4,5,6\n",
            r"a.txt has 3 columns where 6 are needed \(x, y, z, nx, .*; set dataset.normals=false",
        ),
        ("a.txt", "1,2\n4,5\n", r"a.txt has 2 columns where 6 are needed \(x, y, z, nx, ny, nz\)$"),
        ("a.txt", "", "cloud .*a.txt has no points; replace or remove it"),
        ("a.txt", "\n\n", "a.txt has no points"),
        ("a.txt", "1,2,3,0,0,1\n" * 3, "all points of cloud .*a.txt are the same"),
        ("a.txt", "1,2,3,0,0,1\n1,2,3\n", "cannot read cloud .*a.txt: .*columns.*; replace or remove it"),
        ("a.txt", "x,y,z\n1,2,3\n", "cannot read cloud .*a.txt: could not convert string 'x'.*; replace"),
        ("a.txt", b"\xff\xfe\x00", "cannot read cloud .*a.txt: "),
        ("a.npy", b"no array", "cannot read cloud .*a.npy: "),
        ("a.off", "OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "mesh .*a.off has no faces"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "mesh .*a.off has a surface of area 0"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "a.off, vertex 3: .* is not finite"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n", "cannot read cloud .*a.off: "),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "cannot read cloud .*a.off: "),
        ("a.off", "", "cannot read cloud .*a.off: "),
        (
            "a.off",
            "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n",
            "a.off: its header has 4 faces, the file 1; replace",
        ),
        ("a.off", "OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n3 0 1", "its header has 2 faces, the file 1"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1\n3 0 1 2\n", "its header has 3 vertices, the file 2"),
        (
            "a.ply",
            ASCII.format(5) + POINT * 3,
            "a.ply: its header has 5 vertices, the file 3; replace or remove it",
        ),
        ("a.ply", ASCII.format(2) + POINT + "1 2", "its header has 2 vertices, the file 1"),
        ("a.ply", ASCII.format(1) + f"{POINT}3 0", "its header has 1 faces, the file 0"),
        (
            "a.txt",
            "1 2 3 255 0 9\n4 5 6 7 8 9\n",
            "columns 4 to 6 of cloud .*a.txt are no normals: .*colors; set dataset.nor",
        ),
        ("a.txt", "1 2 3 0.5 0.2 0.9\n4 5 6 0 0 0.3\n", "columns 4 to 6 of cloud .*a.txt are no normals"),
        (
            "a.txt",
            "1e-300 0 0 0 0 1\n2e-300 0 0 0 0 1\n",
            "a.txt has an extent of 1e-300, which is too small to compute with",
        ),
        ("a.ply", "", "cannot read cloud .*a.ply: it has no header that ends"),
        ("a.ply", f"ply\nformat ascii 1.0\nelement vertex 0\n{XYZ}end_header\n", "a.ply has no points"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReldropError, match=message) as caught:
        read_cloud(str(path), True)
    assert "\n" not in str(caught.value)


def test_small_clouds_are_filled_up_with_one_warning(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a_0001", "a_0101"):
        write_text(mini / "a" / f"{name}.txt", cloud(0, 5))
    for _ in range(2):  # prepared, and found prepared
        caplog.clear()
        small = modelnet(mini).train.points[0]
        assert len(small.unique(dim=0)) == 5
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
            "2 of the 18 clouds of mini have fewer than 16 points; some of theirs are repeated"
        ]


@pytest.mark.parametrize("line", [0, 1, 2, 9, 10, 14])
def test_comments_in_off(tmp_path: Path, line: int) -> None:
    lines = ["OFF", *CUBE.splitlines()]
    plain = tmp_path / "plain" / "cube.off"
    plain.parent.mkdir()
    plain.write_text("\n".join(lines))
    lines.insert(line, "# by a program, 9 9 9")
    lines[3] += " # 1 1 1"
    (tmp_path / "cube.off").write_text("\ufeff" + "\r\n".join(["", *lines, ""]))
    assert np.array_equal(read_cloud(str(tmp_path / "cube.off"), True), read_cloud(str(plain), True))


def test_comments_in_ascii_ply(tmp_path: Path) -> None:
    points = cloud(0, 5).astype(np.float32)
    rows = "".join(" ".join(map(str, row)) + "\n\n" for row in points)
    header = f"comment by a program\nformat ascii 1.0\nobj_info x\nelement vertex 5\ncomment element vertex 9\n{XYZ}{NORMALS}"
    for end in ("\n", "\r\n"):
        (tmp_path / "a.ply").write_bytes(f"ply\n{header}end_header\n{rows}".replace("\n", end).encode())
        assert np.array_equal(read_cloud(str(tmp_path / "a.ply"), True), points)


def test_binary_ply(tmp_path: Path) -> None:
    points = cloud(0, 50).astype("<f4")
    header = f"ply\nformat binary_little_endian 1.0\ncomment # x\nelement vertex 50\n{XYZ}{NORMALS}end_header\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + points.tobytes())
    assert np.array_equal(read_cloud(str(tmp_path / "a.ply"), True), points)
    (tmp_path / "a.ply").write_bytes(header.encode() + points.tobytes()[:-8])
    with pytest.raises(ReldropError, match=r"cannot read cloud .*a.ply"):
        read_cloud(str(tmp_path / "a.ply"), True)


def test_text_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff-0.5,1,2,0,0,1\n3,4,5,0,0,1\n")
    assert read_cloud(str(tmp_path / "a.txt"), True)[0].tolist() == [-0.5, 1, 2, 0, 0, 1]


def test_colors_do_no_harm_where_normals_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3 255 0 9\n4 5 6 7 8 9\n")
    assert read_cloud(str(tmp_path / "a.txt"), False).tolist() == [[1, 2, 3], [4, 5, 6]]
    (tmp_path / "flat.txt").write_text("1 2 3 0 0 1\n4 5 3 0 0 0\n")  # a plane has the same normal everywhere
    assert read_cloud(str(tmp_path / "flat.txt"), True).shape == (2, 6)

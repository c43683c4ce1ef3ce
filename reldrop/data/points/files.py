"""From a file to a point cloud: text, NumPy arrays, PLY, meshes, and the HDF5 archives of ModelNet.

Every reader checks what it read, and raises `ReldropError` with the file's name for what does not make a cloud.
"""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.seeding import derive_seed

if TYPE_CHECKING:
    from trimesh import Trimesh

SPLITS = ("train", "test")
SUFFIXES = (".txt", ".xyz", ".npy", ".ply", ".off")
SMALLEST = 1e-100  # extent of a cloud; squares of smaller numbers vanish
SURFACE_POINTS = 10_000  # drawn on a mesh, as many as the resampled ModelNet40 has


class CloudFile(NamedTuple):
    """Where one cloud is stored."""

    split: str  # train or test
    kind: str  # name of its class
    name: str  # of the file, relative to the folder of the data set
    row: int | None = None  # which cloud of an HDF5 file; None where the file is one cloud
    where: str = ""  # in which list it is named, for messages


def read_cloud(path: str, normals: bool) -> np.ndarray:
    """Read one file; return float64 (n, 6), x, y, z and the normal of each point, or (n, 3) without normals.

    Args:
        path: of a file with one of the `SUFFIXES`. Text has a point a line, its numbers separated by commas or by white
            space, and so has a .npy array of shape (n, columns); further columns are passed over. A .off file, and a
            .ply file with faces, is a mesh, on whose surface 10,000 points are drawn evenly, with the normals of their
            faces; the draws depend on the file's name only.
        normals: whether they are needed.

    Raises:
        ReldropError: the file cannot be read, or is no cloud; the message names it.
    """
    try:
        return _checked(_READERS[Path(path).suffix.lower()](path), path, normals)
    except ReldropError:
        raise
    except Exception as error:  # the parsers raise many types for damaged files, IndexError and struct.error among them
        raise ReldropError(f"cannot read cloud {path}: {_reason(error)}; replace or remove it") from error


def h5_labels(path: str) -> np.ndarray:
    """Return the labels, int64 (n,), of the n clouds in an HDF5 file of ModelNet, or raise `ReldropError`."""
    (labels,) = _h5_rows(path, ["label"], slice(None))
    return labels.reshape(-1).astype(np.int64)


def read_h5(path: str, rows: Sequence[int], normals: bool) -> list[np.ndarray]:
    """Read the clouds `rows` of an HDF5 file of ModelNet, each float64 (n, 6), or (n, 3) without normals.

    Raises:
        ReldropError: the file cannot be read, has no normals where they are needed, or has damaged clouds.
    """
    first, last = min(rows), max(rows) + 1  # in one piece: the file is compressed
    parts = _h5_rows(path, ["data", "normal"] if normals else ["data"], slice(first, last))
    return [
        _checked(np.concatenate([part[row - first] for part in parts], 1).astype(np.float64), f"{path}[{row}]", normals)
        for row in rows
    ]


def _h5_rows(path: str, keys: Sequence[str], rows: slice) -> list[np.ndarray]:
    import h5py  # only these archives need it

    try:
        with h5py.File(path) as file:
            if "normal" in keys and "normal" not in file:
                raise ReldropError(f"{path} has no normals; set dataset.normals=false to train without them")
            return [file[key][rows] for key in keys]
    except (OSError, KeyError, RuntimeError) as error:
        raise ReldropError(f"cannot read {path}: {_reason(error)}; unpack or download it again") from error


def _read_text(path: str) -> np.ndarray:
    with open(path, encoding="utf-8-sig") as file:
        delimiter = "," if "," in file.read(1000) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty file, which is refused below
        return np.loadtxt(path, delimiter=delimiter, ndmin=2, encoding="utf-8-sig")


def _read_npy(path: str) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"it is {array.dtype} {array.shape} where numbers (points, columns) are needed")
    return array.astype(np.float64)


def _read_off(path: str) -> np.ndarray:
    from trimesh.exchange.off import load_off  # trimesh takes a second to import, and clouds of points do without

    lines = Path(path).read_text("utf-8-sig", errors="replace").splitlines()
    text = "\n".join(line for each in lines if (line := each.partition("#")[0].strip()))
    # The counts may be glued to the header, "OFF490 518 0", as in ModelNet40.
    if header := re.match(r"\w*?OFF\s*(\d+)\s+(\d+).*", text):
        rows = [line.split() for line in text[header.end() :].splitlines()[1:]]
        _refuse_cut(rows, [("vertices", int(header[1]), 3, False), ("faces", int(header[2]), 1, True)])
    mesh = load_off(io.StringIO(text))
    return _sample_mesh(path, mesh["vertices"], mesh["faces"])


def _read_ply(path: str) -> np.ndarray:
    from trimesh.exchange.ply import load_ply

    header, end, body = Path(path).read_bytes().partition(b"end_header")
    if not end:
        raise ValueError("it has no header that ends with end_header")
    lines = [
        words for line in header.splitlines() if (words := line.split()) and words[0] not in (b"comment", b"obj_info")
    ]
    if [b"format", b"ascii"] in [words[:2] for words in lines]:
        rows = [line.split() for line in body.splitlines() if line.strip()]
        _refuse_cut(rows, _ply_sections(lines))
        body = b"\n" + b"\n".join(map(b" ".join, rows)) + b"\n"
    content = b"\n".join([*map(b" ".join, lines), end]) + body
    mesh = load_ply(io.BytesIO(content), fix_texture=False, skip_materials=True)
    if "vertices" not in mesh:
        return np.empty((0, 3))
    if mesh.get("faces") is not None and len(mesh["faces"]):
        return _sample_mesh(path, mesh["vertices"], mesh["faces"])
    return np.concatenate([mesh["vertices"], mesh.get("vertex_normals", np.empty((len(mesh["vertices"]), 0)))], 1)


def _ply_sections(header: Sequence[Sequence[bytes]]) -> list[list[Any]]:
    """Return what the lines of a header promise of an ASCII file, see `_refuse_cut`."""
    sections: list[list[Any]] = []
    for words in header:
        if words[0] == b"element":
            name = words[1].decode()
            sections.append([{"vertex": "vertices", "face": "faces"}.get(name, name), int(words[2]), 0, False])
        elif words[0] == b"property" and sections:
            sections[-1][3] |= words[1] == b"list" and not sections[-1][2]
            sections[-1][2] += 1
    return sections


def _refuse_cut(rows: Sequence[Sequence[str | bytes]], sections: Sequence[Sequence[Any]]) -> None:
    """Refuse fewer rows than a header promises, or fewer words in one of them.

    A section is (what its rows are, how many, of how many words at least, whether the first word says how many more).
    """
    start = 0
    for name, count, words, counted in sections:
        part = rows[start : start + count]
        whole = sum(len(row) >= words + (int(row[0]) if counted else 0) for row in part)
        if whole < count:
            raise ValueError(f"its header has {count} {name}, the file {whole}")
        start += count


_READERS = {".txt": _read_text, ".xyz": _read_text, ".npy": _read_npy, ".ply": _read_ply, ".off": _read_off}


def sample_surface(mesh: "Trimesh", count: int, seed: int) -> np.ndarray:
    """Draw points evenly on a mesh; return them with the normals of their faces, float64 (count, 6)."""
    from trimesh.sample import sample_surface

    points, faces = sample_surface(mesh, count, seed=seed)
    return np.concatenate([points, mesh.face_normals[faces]], 1)


def _sample_mesh(path: str, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Draw points on the triangles (f, 3) between vertices (v, 3) of a file; return them with normals, (n, 6)."""
    from trimesh import Trimesh

    if not len(faces):
        raise ReldropError(f"mesh {path} has no faces, so no surface to draw points on; replace or remove it")
    vertices = np.asarray(vertices, np.float64)
    _refuse_infinite(vertices, path, "vertex")
    mesh = Trimesh(vertices, faces, process=False)
    if not mesh.area:
        raise ReldropError(f"mesh {path} has a surface of area 0, so none to draw points on; replace or remove it")
    return sample_surface(mesh, SURFACE_POINTS, derive_seed(0, f"surface {Path(path).name}"))


def _checked(cloud: np.ndarray, where: str, normals: bool) -> np.ndarray:
    """Return the columns of a cloud that are used, or refuse it."""
    needed, (points, columns) = 6 if normals else 3, cloud.shape
    if not points:
        raise ReldropError(f"cloud {where} has no points; replace or remove it")
    if columns < needed:
        wanted = "x, y, z, nx, ny, nz" if normals else "x, y, z"
        hint = "; set dataset.normals=false to train without normals" if columns >= 3 else ""
        raise ReldropError(f"cloud {where} has {columns} columns where {needed} are needed ({wanted}){hint}")
    cloud = cloud[:, :needed]
    _refuse_infinite(cloud, where, "row")
    if (cloud[:, :3] == cloud[0, :3]).all():
        raise ReldropError(f"all points of cloud {where} are the same; replace or remove it")
    if (extent := np.ptp(cloud[:, :3], axis=0).max()) < SMALLEST:
        raise ReldropError(
            f"cloud {where} has an extent of {extent:g}, which is too small to compute with; scale it up"
        )
    if normals and (cloud[:, 3:] >= 0).all() and not _unit_or_zero(cloud[:, 3:]).all():
        raise ReldropError(
            f"columns 4 to 6 of cloud {where} are no normals: none is negative, and their lengths are not 1, as of colors; "
            "set dataset.normals=false to train without normals"
        )
    return cloud


def _unit_or_zero(normals: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(normals, axis=1)
    return (length < 1e-6) | (np.abs(length - 1) < 0.01)


def _refuse_infinite(values: np.ndarray, where: str, row: str) -> None:
    # What float32 cannot hold when squared counts as infinite, too: distances are computed in it.
    bad = ~(np.abs(values) < 1e18).all(1)
    if bad.any():
        number = int(bad.argmax())
        raise ReldropError(
            f"{where}, {row} {number + 1}: {values[number].tolist()} is not finite, or too large; correct or remove it"
        )


def _reason(error: Exception) -> str:
    return first_line(error).split("; use `usecols`")[0]

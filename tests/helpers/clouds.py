"""Files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from reldrop import data
from reldrop.data import PointData, PointSplit
from reldrop.utils.machine import Machine

CUBE = """8 12 0
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
3 0 2 1
3 0 3 2
3 4 5 6
3 4 6 7
3 0 1 5
3 0 5 4
3 1 2 6
3 1 6 5
3 2 3 7
3 2 7 6
3 3 0 4
3 3 4 7
"""


def cloud(seed: int, points: int = 40, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, columns)).round(4)


def write_text(path: Path, values: np.ndarray, delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, fmt="%.4f", delimiter=delimiter)
    return path


def make_lists(base: Path, prefix: str = "mini", classes: int = 3, train: int = 4, test: int = 2) -> Path:
    """Make the layout of the resampled ModelNet40, no two clouds the same, in classes a, big_b and c."""
    names = ["a", "big_b", "c"][:classes]
    base.mkdir(parents=True, exist_ok=True)
    (base / f"{prefix}_shape_names.txt").write_text("\n".join(names) + "\n")
    for split, first, count in (("train", 1, train), ("test", 101, test)):
        entries = [f"{name}_{number:04}" for name in names for number in range(first, first + count)]
        for seed, entry in enumerate(entries, first):
            write_text(base / entry.rpartition("_")[0] / f"{entry}.txt", cloud(seed))
        (base / f"{prefix}_{split}.txt").write_text("\n".join(entries) + "\n")
    return base


def modelnet(base: Path, **settings: Any) -> PointData:
    """Read a set below `base.parent`; `cache_dir` and `workers` are settings of the machine."""
    defaults = {"prefix": "mini", "name": "mini", "points": 16, "folders": ["none", base.name]}
    return data.modelnet(**defaults | settings_of(base.parent, settings))


def settings_of(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Put `cache_dir` and `workers` of some settings into a machine."""
    machine = {"cache_dir": root / "cache", "workers": 0}
    machine |= {key: settings.pop(key) for key in tuple(machine) if key in settings}
    return settings | {"machine": Machine(root, **machine)}


def memory_data(count: int = 11, points: int = 8, **settings: Any) -> PointData:
    """`count` training clouds; x is the number of the cloud, y that of the point."""
    clouds = torch.zeros(count, points, 6)
    clouds[..., 0], clouds[..., 1] = torch.arange(count)[:, None], torch.arange(points)
    split = PointSplit(clouds, torch.arange(count) % 2)
    return PointData("values", ("even", "odd"), "memory", split, PointSplit(clouds[:4], split.labels[:4]), **settings)


# ---- files ------------------------------------------------------------------------------------------------------------


def write_ply(path: Path, header: str, rows: str) -> Path:
    path.write_text(f"ply\nformat ascii 1.0\n{header}end_header\n{rows}")
    return path


XYZ = "property float x\nproperty float y\nproperty float z\n"


FACES = "element face 12\nproperty list uchar int vertex_indices\n"


# ---- layouts ----------------------------------------------------------------------------------------------------------


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))

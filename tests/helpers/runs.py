"""Every choice runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from reldrop.config import CONFIG_PATH
from reldrop.runs.reader import RunFolder

QUICK = ["trainer.epochs=3", "dataset.subset=200", "dataset.test_subset=50", "trainer.batch_size=32"]


LITTLE = ["monitor.occlusion_samples=4", "monitor.guidance_samples=4"]  # measured while training


TIMING = ("speed/samples_per_second", "attribution/share_of_time")


def config(tmp_path: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        folders = [f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}"]
        return compose("train", [*folders, *LITTLE, *overrides])


def metrics(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMING} for record in records]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.pt", weights_only=True)["model"]


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    assert RunFolder(one).steps() == RunFolder(other).steps()
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def command(tmp_path: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "reldrop.train", f"results_dir={tmp_path / 'results'}", *LITTLE, *overrides]


def fails(tmp_path: Path, *overrides: str) -> str:
    """Run the command as a user does; it has to end with code 1, one sentence and no traceback."""
    done = subprocess.run(command(tmp_path, *overrides), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def write_images(root: Path, splits: dict[str, int], classes: int = 3, size: int = 32) -> None:
    draws = torch.Generator().manual_seed(0)
    for split, count in splits.items():
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(256, (size, size, 3), generator=draws, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")


def fake_data(root: Path) -> None:
    """Small stand-ins for what the experiments read."""
    write_images(root / "cifar10_jpeg", {"train": 1, "test": 1}, classes=10)
    write_images(root / "cifar100_jpeg", {"train": 1, "test": 1}, classes=100)
    tiny = root / "tiny-imagenet-200"
    for label in range(3):
        folder = tiny / "train" / f"n{label}" / "images"
        folder.mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (64, 64), (60 * label, 40 * index, 0)).save(folder / f"n{label}_{index}.JPEG")
    (tiny / "val" / "images").mkdir(parents=True)
    lines = []
    for label in range(3):
        Image.new("L", (64, 64), 60 * label).save(tiny / "val" / "images" / f"val_{label}.JPEG")
        lines.append(f"val_{label}.JPEG\tn{label}\t0\t0\t62\t62")
    (tiny / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    write_images(root / "imagenet", {"train": 2, "val": 1}, classes=3)


def fake_clouds(root: Path, points: int = 40) -> None:
    """Small stand-ins for the text files of ModelNet40, psb19 and ShapeNet."""
    draws = np.random.default_rng(0)
    splits = {"train": range(1, 5), "test": range(5, 7)}
    for folder, prefix in (("modelnet40_normal_resampled", "modelnet40"), ("psb19_normal_resampled", "psb19")):
        base = root / folder
        for label in ("chair", "night_stand"):
            (base / label).mkdir(parents=True)
            for number in range(1, 7):
                np.savetxt(base / label / f"{label}_{number:04}.txt", draws.normal(size=(points, 6)), "%.5f", ",")
        (base / f"{prefix}_shape_names.txt").write_text("chair\nnight_stand\n")
        for split, numbers in splits.items():
            names = [f"{label}_{number:04}" for label in ("chair", "night_stand") for number in numbers]
            (base / f"{prefix}_{split}.txt").write_text("\n".join(names) + "\n")
    base = root / "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    (base / "train_test_split").mkdir(parents=True)
    (base / "synsetoffset2category.txt").write_text("Bag\t02773838\nCap\t02954340\n")
    for synset in ("02773838", "02954340"):
        (base / synset).mkdir()
        for number in range(1, 7):
            np.savetxt(base / synset / f"{number}.txt", draws.normal(size=(points, 7)), "%.5f")
    for split, numbers in {"train": (1, 2, 3), "val": (4,), "test": (5, 6)}.items():
        names = [f"shape_data/{synset}/{number}" for synset in ("02773838", "02954340") for number in numbers]
        (base / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))


# Generated clouds and a small budget: what the tests of point clouds train on.
POINTS = ["+experiment=shapes_pointnet", "dataset.points=64", "dataset.subset=64", "dataset.test_subset=20"]

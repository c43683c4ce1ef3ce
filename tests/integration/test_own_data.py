"""From a folder of one's own to a finished table, in three typed lines."""

import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from reldrop.config import CONFIG_PATH
from tests.helpers.clouds import cloud, write_text
from tests.helpers.images import picture

ROOT = Path(__file__).parents[2]


def typed(line: str, folder: Path) -> str:
    """Run `python -m reldrop.LINE` in a folder, as a user types it, and return what it printed."""
    command = [sys.executable, "-m", *shlex.split(f"reldrop.{line}")]
    environment = {key: value for key, value in os.environ.items() if key != "RELDROP_DATA"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_images(tmp_path: Path) -> None:
    for label, name in enumerate(("cats $x$", "dögs")):
        (tmp_path / "My photos" / name / "more").mkdir(parents=True)
        for index in range(8):
            image = picture(10 * label + index, (20, 14)).convert("L")
            image.save(tmp_path / "My photos" / name / ("more" if index % 2 else ".") / f"{index}.png")
    own = "dataset=image_folder \"dataset.folder='My photos'\" dataset.grayscale=true dataset.size=8"
    said = typed(f"train -m {own} augmentation=none,reldrop_block trainer.epochs=1", tmp_path)
    assert "of 16 images, 3 are for testing" in said
    typed("evaluate run=results/runs/*/*/seed* suite.steps=2 suite.block_draws=1", tmp_path)
    table = typed("tables", tmp_path)
    assert "experiment My-photos_resnet, dataset My photos, backbone resnet_tiny" in table
    assert {"none", "reldrop_block"} <= {line.split(" ")[0] for line in table.splitlines()}
    assert len(list((tmp_path / "results" / "runs" / "My-photos_resnet").glob("*/seed0-*/evaluation.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("network", ["timm backbone.name=convnext_atto", "torchvision backbone.name=squeezenet1_1"])
def test_any_network(tmp_path: Path, network: str) -> None:
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            picture(20 * label + index, (32, 32)).save(tmp_path / "photos" / name / f"{index}.png")
    own = "dataset=image_folder dataset.folder=photos dataset.size=64 trainer.batch_size=4 trainer.max_steps=3"
    said = typed(
        f"train {own} backbone={network} attribution=gradient augmentation=reldrop_block augmentation.probability=1",
        tmp_path,
    )
    assert "finished: test accuracy" in said
    assert "relevance is not conserved" not in said
    (run,) = (tmp_path / "results" / "runs").glob("*/reldrop_block/seed0-*")
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert math.isfinite(record["train/loss"])


@pytest.mark.slow
def test_clouds(tmp_path: Path) -> None:
    for label, name in enumerate(("cup", "tea pot")):
        for index in range(6):
            write_text(tmp_path / "scans" / name / f"{index}.txt", cloud(10 * label + index))
    own = "backbone=pointnet dataset=point_folder dataset.folder=scans dataset.points=32 trainer.epochs=1 trainer.batch_size=4"
    assert "of 12 clouds, 2 are for testing" in typed(f"train {own} augmentation=reldrop_point", tmp_path)
    typed(f"train {own} augmentation=none", tmp_path)
    table = typed("tables format=csv", tmp_path)
    assert "scans_pointnet" in table
    assert {"none", "reldrop_point"} <= {word for line in table.splitlines() for word in line.split(",")}


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "digits_resnet"),
        (["dataset=cifar10", "backbone=resnet18"], "cifar10_resnet"),
        (["dataset=tiny_imagenet", "backbone=timm", "backbone.name=vit_tiny_patch16_224"], "tiny_imagenet_vit"),
        (["dataset=point_folder", "dataset.folder=my/scans 2", "backbone=pointnet2_ssg"], "scans-2_pointnet2"),
        (["dataset=image_folder", "dataset.folder='/a/Größe, b'"], "Größe-b_resnet"),
        (["dataset=image_folder", "dataset.folder=2024", "dataset.name=mine"], "mine_resnet"),
        (["backbone=resnet50", "backbone.name=resnet50.a1_in1k"], "digits_resnet"),
        (["backbone=timm", "backbone.name=efficientnet_b0"], "digits_efficientnet"),
        (["backbone=timm", "backbone.name=my_net"], "digits_my_net"),
        (["name=other"], "other"),
        (["+experiment=shapes_pointnet"], "shapes_pointnet"),
    ],
)
def test_experiments_are_named_by_data_and_network(overrides: list[str], name: str) -> None:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        assert compose("train", overrides).name == name

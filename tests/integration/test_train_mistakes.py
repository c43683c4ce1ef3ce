"""Mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from reldrop.runs.identity import run_folder
from reldrop.train import train
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import POINTS, QUICK, config, fails, write_images


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("+augmentation.probabilty=0.1", "augmentation.probability"),
        ("+trainer.epoch=3", "trainer.epochs"),
        ("+sed=3", "did you mean seed"),
        ("+dataset.subsets=3", "dataset.subset"),
        ("trainer.batch_size=1", "trainer.batch_size=1 must be at least 2"),
        ("trainer.epochs=0", "trainer.epochs"),
        ("trainer.precision=8-bit", "trainer.precision"),
        ("trainer.precision=16-mixed", "needs a GPU"),
        ("optimizer.lr=-1", "Invalid learning rate"),
        ("backbone.name=resnet19", "backbone.name=resnet19 is not known to timm"),
        ("backbone.stem=tall", "backbone.stem"),
        ("backbone.weights=/no/such/file.pt", "does not exist"),
        ("dataset.subset=0", "dataset.subset"),
        ("dataset.validation=1.0", "dataset.validation"),
        ("attribution.epsilon=-1", "attribution.epsilon"),
        ("augmentation.fill=gray", "augmentation.fill"),
        ("scheduler.warmup_epochs=-1", "warmup_epochs"),
        ("tracking.mode=loud", "tracking.mode"),
        ("augmentation=reldrop_point", "reldrop_point is for points, but dataset digits has images"),
        ("backbone=pointnet", "pointnet is for points, but dataset digits has images"),
        ("dataset=shapes", "resnet_tiny is for images, but dataset shapes has points"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, override: str, names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        train(config(tmp_path, *QUICK, override))


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("augmentation=reldrop_block", "reldrop_block is for images"),
        ("backbone=resnet18", "resnet18 is for images"),
        ("trainer.channels_last=true", "channels_last"),
        ("augmentation.alpha=2", "augmentation.alpha"),
        ("augmentation.fill=[0,0]", "2 values for inputs with 6 channels"),
        ("attribution.conv_rule=zplus", "conv_rule=epsilon"),
        ("dataset.rotate=w", "dataset.rotate"),
        ("dataset.points=1", "dataset.points"),
        ("backbone.name=pointnet3", "backbone.name"),
        ("dataset=modelnet40", "modelnet40 not found"),
    ],
)
def test_mistakes_in_the_configuration_of_points(tmp_path: Path, override: str, names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        train(config(tmp_path, *POINTS[:1], override))


@pytest.mark.parametrize("arguments", [["+augmentation.probabilty=1"], ["--help"]])
def test_mistakes_and_help_do_not_wait_for_libraries(arguments: list[str]) -> None:
    heavy = {"lightning_fabric", "matplotlib", "scipy", "timm", "torchvision", "wandb", "zennit"}
    code = f"import atexit, sys; atexit.register(lambda: print('heavy', *({heavy} & sys.modules.keys())))"
    code += "; from reldrop.train import command; command()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "heavy"
    assert "augmentation.probability" in done.stderr or "reldrop_block" in done.stdout


@pytest.mark.slow
def test_mistakes_at_the_command_line(tmp_path: Path) -> None:
    assert "did you mean augmentation" in fails(tmp_path, "augmentaton=none")
    assert "did you mean trainer.epochs" in fails(tmp_path, "trainer.epoch=3")
    assert "did you mean trainer.epochs" in fails(tmp_path, "+trainer.epoch=3")
    assert "did you mean dataset.normals" in fails(tmp_path, "+experiment=shapes_pointnet", "dataset.normal=false")
    said = fails(tmp_path, "dataset=image_folder", "dataset.folder=nowhere", "data_dir=no/such/place")
    assert "no/such/place/nowhere" in said
    write_images(tmp_path / "data" / "mine", {"train": 3, "test": 2})
    broken = tmp_path / "data" / "mine" / "train" / "class1" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    mine = ["dataset=image_folder", "dataset.folder=mine", "dataset.size=32", f"data_dir={tmp_path / 'data'}"]
    assert str(broken) in fails(tmp_path, *mine)


FOLDER = ["dataset=image_folder", "dataset.folder=nowhere", "dataset.size=32"]


@pytest.mark.parametrize(
    ("words", "group", "part", "names"),
    [
        (FOLDER, "augmentation", "Half", "augmentation Half returns a tensor"),
        (FOLDER, "attribution", "WithoutMap", "attribution WithoutMap returns a tensor"),
        (FOLDER, "backbone", "Features", "backbone Features returns a tensor"),
        (["dataset=modelnet40", "backbone=pointnet"], "augmentation", "Half", "augmentation Half returns a tensor"),
    ],
)
def test_parts_are_tried_before_the_data_are_read(
    tmp_path: Path, words: list[str], group: str, part: str, names: str
) -> None:
    """The data are not there."""
    cfg = config(tmp_path, *words)
    cfg[group] = {"_target_": f"tests.helpers.broken_parts.{part}", "name": "own"}
    with pytest.raises(ReldropError, match=names):
        train(cfg)


def test_damaged_checkpoint(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK)
    train(cfg)
    folder = run_folder(cfg)
    (folder / "summary.json").unlink()
    whole = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(whole[: len(whole) // 2])
    history = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(ReldropError, match=r"last\.pt is damaged"):
        train(cfg)
    assert (folder / "metrics.jsonl").read_bytes() == history
    (folder / "last.pt").write_bytes(whole)
    train(cfg)


def test_two_processes_on_one_run(tmp_path: Path) -> None:
    from reldrop.runs.run import Run

    cfg = config(tmp_path, *QUICK)
    with Run(cfg), pytest.raises(ReldropError, match="in use"):
        train(cfg)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK, "optimizer.lr=1e30", "augmentation=none", "scheduler=constant")
    with pytest.raises(ReldropError, match="epoch 1, batch 2"):
        train(cfg)
    assert "the loss is" in (run_folder(cfg) / "FAILED").read_text()


def test_weights_of_another_network(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK)
    train(cfg)
    start = run_folder(cfg) / "last.pt"
    with pytest.raises(ReldropError, match="do not fit the network resnet18"):
        train(config(tmp_path, *QUICK, "backbone=resnet18", f"backbone.weights={start}"))


def test_more_classes_in_the_data_than_in_the_weights(tmp_path: Path) -> None:
    for name, classes in (("few", 3), ("many", 12)):
        write_images(tmp_path / "data" / name, {"train": 3, "test": 2}, classes=classes, size=8)
    options = ["dataset=image_folder", "dataset.size=8", "trainer.max_steps=1"]
    few = config(tmp_path, *options, "dataset.folder=few")
    train(few)
    start = f"backbone.weights={run_folder(few) / 'last.pt'}"
    with pytest.raises(ReldropError, match="for 3 classes, the data have 12 classes"):
        train(config(tmp_path, *options, "dataset.folder=many", start, "backbone.reset_head=false"))
    train(config(tmp_path, *options, "dataset.folder=many", start))

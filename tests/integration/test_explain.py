"""Relevance without training, by the real command's function: networks of timm, runs on images and on clouds, mistakes."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from reldrop.config import CONFIG_PATH
from reldrop.explain import explain
from reldrop.plotting.relevance import Shown, write_clouds
from reldrop.train import train
from reldrop.utils.errors import ReldropError
from tests.helpers import runs
from tests.helpers.common_pointnet2 import random_state

SMALL = ("model=resnet10t", "weights=null", "machine.progress=false")


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose("explain", list(overrides))


def trained(results: Path, *overrides: str) -> Path:
    """The folder of a run of one epoch."""
    train(runs.config(results, "trainer.epochs=1", *(overrides or ("dataset.subset=200", "dataset.test_subset=50"))))
    return next(results.rglob("last.pt")).parent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    for name, size in (("a.png", (40, 30)), ("below/a.jpg", (300, 200)), ("$gray_.png", (28, 28))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = draws.integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(picture[..., 0] if "gray" in name else picture).save(path)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    (tmp_path / "photos" / "notes.txt").write_text("no image either")
    return tmp_path / "photos"


def test_a_network_of_timm(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    overrides = (
        "model=resnet10t",
        f"weights={tmp_path / 'weights.pt'}",
        f"images={photos}",
        f"output={tmp_path / 'out'}",
    )
    written = explain(config(*overrides, "batch_size=2", "target=goldfish"))
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in written) == ["$gray_.png", "a.png", "below/a.png"]
    assert all(Image.open(path).width > 500 for path in written)
    assert "broken.png is passed over" in capfd.readouterr().out + capfd.readouterr().err


def test_check(capsys: pytest.CaptureFixture) -> None:
    assert explain(config(*SMALL, "check=true")) == []
    said = capsys.readouterr().out
    assert "random inputs" in said
    assert "relevance of the input + absorbed - logit" in said


def test_check_names_a_file_that_cannot_be_read(photos: Path) -> None:
    with pytest.raises(ReldropError, match=r"cannot decode image .*broken.png"):
        explain(config(*SMALL, f"images={photos / 'broken.png'}", "check=true"))


def test_each_file_has_a_picture_of_its_own(tmp_path: Path) -> None:
    for name in ("x/y.png", "x_y.png", "a.png", "a.bmp"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (9, 99, 200)).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    written = explain(config(*SMALL, f"images={tmp_path / 'in'}", f"output={out}"))
    assert sorted(str(path.relative_to(out)) for path in written) == [
        "a.bmp.png",
        "a.png.png",
        "x/y.png.png",
        "x_y.png.png",
    ]
    assert all(path.is_file() for path in written)


def test_a_page_shows_a_part_of_a_large_cloud(tmp_path: Path) -> None:
    points = torch.randn(10_000, 3)
    shown = Shown("large", points, points[:, 0].numpy(), "chair 90%", "relevance for chair")
    written = {path.suffix: path.read_text() for path in write_clouds(shown, tmp_path) if path.suffix != ".png"}
    assert "element vertex 10000" in written[".ply"]
    assert "3,334 of 10,000 points are shown" in written[".html"]
    assert len(written[".html"]) < 300_000


def test_a_run_on_images(photos: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    written = explain(config(f"run={folder}", f"images={photos / 'a.png'}", f"output={tmp_path / 'out'}"))
    assert [path.name for path in written] == ["a.png"]
    with pytest.raises(ReldropError, match="set images=FOLDER"):
        explain(config(f"run={folder}", f"clouds={photos}", f"output={tmp_path / 'out'}"))


@pytest.mark.slow
def test_a_run_on_clouds(tmp_path: Path) -> None:
    small = (
        "dataset=shapes",
        "dataset.points=32",
        "dataset.subset=20",
        "dataset.test_subset=20",
        "trainer.batch_size=10",
    )
    folder = trained(tmp_path, *small, "backbone=pointnet", "augmentation=reldrop_point")
    (tmp_path / "clouds").mkdir()
    cloud = np.random.default_rng(0).normal(size=(100, 6))
    cloud[:, 3:] /= np.linalg.norm(cloud[:, 3:], axis=1, keepdims=True)
    np.savetxt(tmp_path / "clouds" / "one.txt", cloud)
    written = explain(config(f"run={folder}", f"clouds={tmp_path / 'clouds'}", f"output={tmp_path / 'out'}"))
    assert [path.name for path in written] == ["one.png", "one.ply", "one.html"]
    ply = written[1].read_text().splitlines()
    assert "element vertex 32" in ply
    assert len(ply) == ply.index("end_header") + 1 + 32
    page = written[2].read_text()
    assert "$" not in page.replace("${", "")
    assert page.count("[") > 32


def test_a_checkpoint_of_pointnet2(tmp_path: Path) -> None:
    torch.save(random_state(False, 3, 40), tmp_path / "best_model.pth")
    (tmp_path / "clouds").mkdir()
    np.savetxt(tmp_path / "clouds" / "one.txt", np.random.default_rng(0).normal(size=(300, 3)))
    overrides = (f"checkpoint={tmp_path / 'best_model.pth'}", f"clouds={tmp_path / 'clouds'}", "target=night_stand")
    written = explain(config(*overrides, f"output={tmp_path / 'out'}", "machine.progress=false"))
    assert [path.name for path in written] == ["one.png", "one.ply", "one.html"]
    assert "relevance for night_stand" in written[2].read_text()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "set one of model=NAME .*, run=FOLDER .* and checkpoint=FILE"),
        (("checkpoint=/nowhere.pth", "clouds=."), "/nowhere.pth"),
        (("checkpoint=some.pth", "images=."), "clouds=FOLDER in place of images"),
        (SMALL, "set one of images=FOLDER and clouds=FOLDER, or check=true"),
        (("model=resnet5", "weights=null", "images=."), "did you mean resnet50"),
        ((*SMALL, "images=/nowhere"), "has no files to explain"),
        ((*SMALL, "check=true", "attribution=random"), "not random"),
        (("model=resnet10t", "weights=/nowhere.pt", "check=true"), "weights=/nowhere.pt does not exist"),
        (("model=resnet10t", "clouds=."), "networks of timm take images"),
        ((*SMALL, "check=true", "target=crane"), "target=crane is the name of classes 134 and 517; give an index"),
        ((*SMALL, "check=true", "target=goldfsh"), "did you mean goldfish"),
        ((*SMALL, "check=true", "target=1000"), "below 1000"),
    ],
)
def test_mistakes(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ReldropError, match=said):
        explain(config(*overrides))

"""The entry point."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torchvision import transforms

from reldrop.backbones import timm_model
from reldrop.config import CONFIG_PATH
from reldrop.evaluate import evaluate
from reldrop.evaluation import imagenet_classes, zero_shot
from reldrop.metrics.accuracy import restrict
from reldrop.utils.errors import ReldropError
from tests.helpers.machine import DATA
from tests.helpers.zero_shot import SUITE, write_images, write_sets


def config(tmp_path: Path, *overrides: str) -> DictConfig:
    common = [f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}"]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose(
            "evaluate",
            [*common, "suite=zero_shot", "batch_size=4", "machine.workers=0", "machine.accelerator=cpu", *overrides],
        )


def make_run(tmp_path: Path, *overrides: str, outputs: int = 1000, number: int = 0) -> Path:
    """A folder as training leaves it, of a small network."""
    chosen = ["dataset=imagenet", "dataset.size=48", "dataset.eval_resize=56", "augmentation=none", *overrides]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", ["+experiment=imagenet_resnet", "backbone=resnet_tiny", *chosen])
    folder = tmp_path / "results" / "runs" / "imagenet_resnet" / "none" / f"seed{number}-12345678"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    torch.manual_seed(0)
    network = timm_model("resnet_tiny", num_classes=outputs, size=48)
    for name in ("last.pt", "best.pt"):
        torch.save({"model": network.state_dict(), "epoch": 3}, folder / name)
    return folder


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sets(tmp_path / "data")
    folder = make_run(tmp_path)
    (evaluation,) = evaluate(config(tmp_path, f"run={folder}", "preprocessing=own"))
    results = evaluation.figures
    written = json.loads((folder / "zero_shot.json").read_text())
    assert written.keys() == results.keys()
    assert written["missing"] == []
    assert {name: written[name]["images"] for name in zero_shot.NAMES} == {
        **dict.fromkeys(imagenet_classes.SETS, 6),
        "imagenet_val": 3,
    }
    assert not list(folder.glob(".*.tmp"))
    shown = capsys.readouterr().out
    assert all(title in shown for title in ("ImageNet-A", "ImageNet-R", "ImageNet-O", "ImageNet-val"))
    with np.load(folder / "zero_shot.npz") as arrays:
        assert arrays["imagenet_a/rank"].shape == (6,)
    assert "resize 56, center crop 48, bilinear" in written["preprocessing"]
    assert str(tmp_path) not in (folder / "zero_shot.json").read_text()

    # the same by hand, for one set
    network = timm_model("resnet_tiny", num_classes=1000, size=48)
    network.load_state_dict(torch.load(folder / "last.pt")["model"])
    network.eval()
    seen = transforms.Compose(
        [
            transforms.Resize(56),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    files = SUITE.find(tmp_path / "data")[0]["imagenet_a"]
    with torch.inference_mode():
        logits = network(torch.stack([seen(Image.open(path)) for path in files.paths]))
    inside, labels = restrict(logits, files.labels, imagenet_classes.class_indices("imagenet_a"))
    correct = inside.argmax(1) == labels
    assert written["imagenet_a"]["top1"] == pytest.approx(correct.double().mean().item())
    error = (inside.double().softmax(1).amax(1).mean() - correct.double().mean()).abs().item()
    assert written["imagenet_a"]["rms_calibration_error"] == pytest.approx(error, abs=1e-6)

    (again,) = evaluate(
        config(tmp_path, f"run={folder}", "preprocessing=own", "batch_size=5", "machine.workers=1", "checkpoint=best")
    )
    for name in zero_shot.NAMES:
        assert again.figures[name] == pytest.approx(results[name], abs=1e-5, nan_ok=True)


def test_a_network_of_timm_in_low_precision(tmp_path: Path) -> None:
    write_sets(tmp_path / "data", 2)
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    output = tmp_path / "new" / "out.json"
    overrides = ["model=resnet10t", f"weights={tmp_path / 'weights.pt'}", "preprocessing=own", "precision=bf16-mixed"]
    (evaluation,) = evaluate(config(tmp_path, *overrides, "limit=2", f"output={output}"))
    assert evaluation.figures["imagenet_a"]["images"] == 2
    assert json.loads(output.read_text())["settings"]["limit"] == 2
    assert evaluation.figures["subject"] == "resnet10t, weights of weights.pt"


def test_a_run_is_evaluated_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_images(tmp_path / "data" / "imagenet-a", imagenet_classes.class_wnids("imagenet_a")[:2])
    folder = make_run(tmp_path)
    options = f"run={folder}", "preprocessing=own"
    (first,) = evaluate(config(tmp_path, *options))
    assert first.figures["missing"] == ["imagenet_r", "imagenet_o", "imagenet_val"]
    assert "evaluated before" not in caplog.text
    (again,) = evaluate(config(tmp_path, *options))
    assert "evaluated before" in caplog.text
    assert again.figures == first.figures
    write_images(tmp_path / "data" / "imagenet-r", imagenet_classes.class_wnids("imagenet_r")[:1])  # now there are more
    (more,) = evaluate(config(tmp_path, *options))
    assert more.figures["missing"] == ["imagenet_o", "imagenet_val"]
    many = [f"run={folder.parent}/*", f"output={tmp_path / 'out.json'}"]
    make_run(tmp_path, number=1)
    with pytest.raises(ReldropError, match="is the file of one run, not of 2"):
        evaluate(config(tmp_path, *many))
    assert len(evaluate(config(tmp_path, many[0], "preprocessing=own"))) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "name what to evaluate"),
        (["run=somewhere", "model=resnet18"], "not both"),
        (["run=somewhere"], "run=somewhere leads to no folder"),
        (["run=somewhere", "weights=w.pt"], "goes with model=NAME"),
        (["run=somewhere", "checkpoint=first"], "checkpoint='first' must be 'last' or 'best'"),
        (["run=somewhere", "preprocessing=none"], "preprocessing='none' must be 'standard' or 'own'"),
        (["run=somewhere", "limit=0"], "limit=0 must be at least 1 or null"),
        (["run=somewhere", "batch_size=null"], "batch_size=null must be a whole number"),
        (["run=somewhere", "+weight=w.pt"], "did you mean weights"),
        (["model=resnet-18"], "did you mean resnet"),
        (["model=resnet18", "weights=nowhere.pt"], "weights=nowhere.pt does not exist"),
    ],
)
def test_mistakes(tmp_path: Path, overrides: list[str], message: str) -> None:
    write_images(tmp_path / "data" / "imagenet-a", imagenet_classes.class_wnids("imagenet_a")[:1])
    with pytest.raises(ReldropError, match=message):
        evaluate(config(tmp_path, *overrides))


def test_runs_that_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "imagenet-a", imagenet_classes.class_wnids("imagenet_a")[:1])

    def refused(message: str, *overrides: str, outputs: int = 1000) -> None:
        folder = make_run(tmp_path, *overrides, outputs=outputs)
        with pytest.raises(ReldropError, match=message):
            evaluate(config(tmp_path, f"run={folder}"))

    refused("of a network for 100 classes, the data have 1000", outputs=100)
    refused("is a run on imagenet; this suite takes networks for the 1,000", "dataset.classes=[n01440764,n01443537]")
    folder = make_run(tmp_path)
    digits = OmegaConf.load(folder / "config.yaml")
    digits.dataset = {"_target_": "reldrop.data.digits", "name": "digits"}
    OmegaConf.save(digits, folder / "config.yaml")
    with pytest.raises(ReldropError, match="is a run on digits"):
        evaluate(config(tmp_path, f"run={folder}"))
    folder = make_run(tmp_path)
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:1000])
    with pytest.raises(ReldropError, match="is damaged"):
        evaluate(config(tmp_path, f"run={folder}"))
    torch.save({"model": timm.create_model("resnet10t").state_dict(), "epoch": 1}, folder / "last.pt")
    with pytest.raises(ReldropError, match="does not fit backbone resnet_tiny"):
        evaluate(config(tmp_path, f"run={folder}"))
    assert not (folder / "zero_shot.json").exists()


def test_networks_that_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "imagenet-a", imagenet_classes.class_wnids("imagenet_a")[:1])

    def refused(message: str, name: str, *overrides: str) -> None:
        with pytest.raises(ReldropError, match=message):
            evaluate(config(tmp_path, f"model={name}", f"weights={tmp_path / 'weights.pt'}", *overrides))

    (tmp_path / "weights.pt").write_text("no weights")
    refused("cannot load the weights of resnet10t", "resnet10t")
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    refused("cannot load the weights of resnet14t", "resnet14t")
    torch.save(timm.create_model("vit_tiny_patch16_384").state_dict(), tmp_path / "weights.pt")
    refused("does not take images of 224 pixels", "vit_tiny_patch16_384")
    evaluate(config(tmp_path, "model=vit_tiny_patch16_384", f"weights={tmp_path / 'weights.pt'}", "preprocessing=own"))
    refused(
        "cannot write", "vit_tiny_patch16_384", "preprocessing=own", f"output={tmp_path / 'weights.pt' / 'out.json'}"
    )


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "imagenet-a" / imagenet_classes.class_wnids("imagenet_a")[0]
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(ReldropError, match=r"0\.png"):
        evaluate(config(tmp_path, f"run={make_run(tmp_path)}"))


@pytest.mark.slow
def test_mistakes_at_the_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "reldrop.evaluate",
        "suite=zero_shot",
        f"data_dir={tmp_path}",
        f"results_dir={tmp_path / 'results'}",
    ]
    for override, message in (
        ("run=nowhere", "leads to no folder"),
        ("model=resnet18", "none of imagenet"),
        ("modle=resnet18", "modle"),
    ):
        done = subprocess.run([*command, override], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.real_data("imagenet_sample")
def test_real_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pt")
    overrides = [
        "model=resnet18",
        f"weights={tmp_path / 'weights.pt'}",
        f"data_dir={DATA}",
        "limit=32",
        "machine.workers=1",
    ]
    (evaluation,) = evaluate(config(tmp_path, *overrides))
    assert evaluation.figures["imagenet_val"]["images"] == 32
    assert evaluation.figures["imagenet_val"]["top1"] < 0.1
    assert (tmp_path / "results" / "zero_shot" / "resnet18.json").is_file()

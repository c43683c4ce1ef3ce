"""The benchmark runs and prints what it promises, and its yardstick computes our network; times are nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reldrop.attribution import GradientLRP
from reldrop.backbones import point_network, timm_model
from reldrop.runs.identity import run_folder
from reldrop.train import train
from tests.helpers.networks import randomize
from tests.helpers.paths import ROOT
from tests.helpers.runs import QUICK, config

SCRIPTS = ROOT / "scripts"


sys.path.append(str(SCRIPTS))


from benchmark_flipping import batched_curve, looped_curve  # noqa: E402
from precision import agreement  # noqa: E402
from yardstick_pointnet2 import copy_weights, yardstick  # noqa: E402


def benchmark(options: str, *more: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / "benchmark.py", *options.split(), *more]
    return subprocess.run(command, capture_output=True, text=True, check=check)


@pytest.mark.benchmark
def test_benchmark_runs(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    options = "--backbone resnet_tiny --size 16 --batch-size 4 --rounds 1 --zennit --device cpu"
    done = benchmark(options, "--json", output)
    assert "| RelDrop-block, p = 1 |" in done.stdout
    figures = json.loads(output.read_text())["figures"]
    assert figures["plain step"]["ratio"] == 1
    assert "RelDrop-block, p = 1, recycled" in figures
    assert figures["floor of RelDrop, p = 1"]["ratio"] > 1


@pytest.mark.benchmark
@pytest.mark.parametrize("backbone", ["pointnet", "pointnet2_ssg"])
def test_points(backbone: str, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    options = f"points --backbone {backbone} --batch-size 2 --points 64 --rounds 1 --zennit --device cpu"
    done = benchmark(options, "--json", output)
    content = json.loads(output.read_text())
    assert content["machine"]["backbone"] == backbone
    assert content["machine"]["points"] == 64
    assert content["figures"]["plain step"]["ratio"] == 1
    expected = {
        *("plain step", "evaluation forward", "forward and input gradient", "random point dropout, p = 1"),
        *("RelDrop-point, p = 1", "RelDrop-point, p = 1, zennit", "attribution alone", "floor of RelDrop, p = 1"),
    }
    assert set(content["figures"]) - {"yardstick step"} == expected
    assert ("yardstick step" in content["figures"]) == (backbone == "pointnet2_ssg")
    assert ("times the plain step" in done.stdout) == (backbone == "pointnet2_ssg")


def make_psb(folder: Path) -> None:
    """Write 7 clouds of 40 points in the layout of the resampled ModelNet40."""
    folder.mkdir(parents=True)
    (folder / "psb19_shape_names.txt").write_text("a\nb\n")
    splits = {"train": ["a_1", "a_2", "a_3", "b_1", "b_2"], "test": ["a_4", "b_3"]}
    draws = np.random.default_rng(0)
    for split, entries in splits.items():
        (folder / f"psb19_{split}.txt").write_text("\n".join(entries) + "\n")
        for entry in entries:
            path = folder / entry[0] / f"{entry}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, draws.normal(size=(40, 6)), fmt="%.4f", delimiter=",")


@pytest.mark.benchmark
def test_reading(tmp_path: Path) -> None:
    make_psb(tmp_path / "data" / "psb19_normal_resampled")
    output = tmp_path / "figures.json"
    options = "reading --points 16 --batch-size 2 --rounds 1"
    done = benchmark(options, "--data", tmp_path / "data", "--json", output)
    assert "text, parsed and sampled" in done.stdout
    content = json.loads(output.read_text())
    assert content["machine"]["text_files"] == content["machine"]["cached_clouds"] == 5
    assert content["figures"]["cached, in training batches"]["ratio"] == 1
    assert set(content["figures"]) == {
        *("text, parsed", "text, parsed and sampled", "cached, in training batches", "cached, one at a time")
    }


@pytest.mark.slow
def test_mistakes_are_explained(tmp_path: Path) -> None:
    done = benchmark("reading --dataset modelnet40", "--data", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("no text files of modelnet40 found in ")
    assert "--data" in done.stderr
    assert done.stderr.count("\n") == 1
    done = benchmark("points --backbone resnet18", check=False)
    assert done.returncode == 2
    assert "--backbone resnet18 is for images" in done.stderr


@pytest.mark.parametrize("name", ["pointnet2_ssg", "pointnet2_msg"])
def test_the_yardstick_has_our_number_of_parameters(name: str) -> None:
    ours, its = point_network(name, num_classes=40, channels=6), yardstick(name, num_classes=40)
    assert sum(p.numel() for p in its.parameters()) == sum(p.numel() for p in ours.parameters())


@pytest.mark.parametrize("name", ["pointnet2_ssg", pytest.param("pointnet2_msg", marks=pytest.mark.slow)])
@torch.no_grad()
def test_the_yardstick_computes_our_network(name: str) -> None:
    ours = randomize(point_network(name, num_classes=10, channels=6)).eval()
    its = yardstick(name, num_classes=10).double().eval()
    copy_weights(ours, its)
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(2, 600, 6, generator=draws, dtype=torch.float64)
    points[..., :3] *= torch.rand(2, 600, 1, generator=draws) / points[..., :3].norm(dim=-1, keepdim=True)
    # No two points are as far apart as a radius, to the digits that the yardstick's distances keep.
    distances = torch.cdist(points[..., :3], points[..., :3], compute_mode="donot_use_mm_for_euclid_dist")
    assert min((distances - radius).abs().min() for radius in (0.1, 0.2, 0.4, 0.8)) > 1e-10
    expected = ours(points)
    torch.testing.assert_close(its(points.transpose(1, 2), start=0), expected, rtol=0, atol=1e-8)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the logits say something about the clouds
    assert not torch.allclose(its(points.transpose(1, 2), start=1), expected, rtol=0, atol=1e-8)


@pytest.mark.benchmark
def test_decoding(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("n01440764", "n01443537"):
            folder = tmp_path / "imagenet" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (50, 40), (number, 9, 9)).save(folder / f"{number}.JPEG")
    output = tmp_path / "figures.json"
    options = "decoding --backbone resnet_tiny --size 32 --batch-size 2 --samples 6 --rounds 1 --device cpu"
    done = benchmark(options, "--data", tmp_path, "--json", output)
    assert "| loader |" in done.stdout
    content = json.loads(output.read_text())
    assert content["figures"]["decoding alone"]["ratio"] == 1
    assert len(content["figures"]) == 4
    done = benchmark(options, "--data", tmp_path / "nowhere", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_both_ways_to_flip_pixels_agree() -> None:
    torch.manual_seed(0)
    model = randomize(timm_model("resnet_tiny", num_classes=10, size=16)).eval()
    inputs, targets = torch.randn(12, 3, 16, 16, dtype=torch.float64), torch.arange(12) % 10
    batched = batched_curve(model, GradientLRP(), inputs, targets, steps=8, batch_size=5)
    assert torch.equal(batched, looped_curve(model, GradientLRP(), inputs, targets, steps=8))


@pytest.mark.benchmark
def test_flipping(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    options = (
        "flipping --backbone resnet_tiny --size 16 --batch-size 4 --samples 8 --loop-samples 2 --steps 4 --rounds 1"
    )
    benchmark(options, "--device", "cpu", "--json", output)
    content = json.loads(output.read_text())
    assert content["figures"]["in batches"]["ratio"] == 1
    assert content["machine"]["loop_samples"] == 2


@pytest.mark.benchmark
def test_input(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    options = "input --backbone resnet_tiny --size 16 --batch-size 4 --samples 8 --workers 0 --rounds 1 --device cpu"
    done = benchmark(options, "--json", output)
    assert "% of the training that they are for" in done.stdout
    figures = json.loads(output.read_text())["figures"]
    assert figures["batches on the device"]["ratio"] == 1
    assert len(figures) == 4


@pytest.mark.benchmark
def test_start(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    benchmark("start --rounds 1", "--json", output)
    assert set(json.loads(output.read_text())["figures"]) == {"first training step", "a misspelt key is named", "help"}


@pytest.mark.benchmark
def test_memory(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [
        sys.executable,
        SCRIPTS / "memory.py",
        *["--backbone", "resnet_tiny", "--batch-size", "64", "--device", "cpu", "--json"],
    ]
    subprocess.run([*command, output], check=True, capture_output=True)
    figures = json.loads(output.read_text())["figures"]
    assert figures["plain step"]["ratio"] == 1
    assert all(row["bytes"] > 0 for row in figures.values())


def test_agreement() -> None:
    one, other = torch.zeros(2, 10, 10), torch.zeros(2, 10, 10)
    one[:, 0, :5] = torch.tensor([5.0, 4, 3, 2, 1])
    other[0, 0, :5] = torch.tensor([5.0, 4, 3, 2, 1])
    other[1, 0, 3:8] = torch.tensor([5.0, 4, 3, 2, 1])
    found = agreement(one, other)
    assert found["same center"].tolist() == [1, 0]
    assert found["center within 2 pixels"].tolist() == [1, 0]
    torch.testing.assert_close(found["top-5 % overlap"], torch.tensor([1, 0.4], dtype=torch.float64), rtol=0, atol=1e-6)
    other[1, 0, 3:8] = torch.tensor([1.0, 0, 0, 0, 0])
    other[1, 2, 2] = 2
    assert agreement(one, other)["center within 2 pixels"].tolist() == [1, 1]
    assert "center within 2 pixels" not in agreement(one[:, 0], other[:, 0])  # clouds


@pytest.mark.benchmark
def test_precision(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK, "trainer.epochs=1")
    train(cfg)
    run, output = run_folder(cfg), tmp_path / "figures.json"
    command = [sys.executable, SCRIPTS / "precision.py", "--samples", "20", "--device", "cpu"]
    subprocess.run([*command, run, "--json", output], check=True, capture_output=True)
    (figures,) = json.loads(output.read_text()).values()
    assert figures["float64"]["same center"] > 0.9
    assert figures["bfloat16"]["top-5 % overlap"] > figures["float32, another class"]["top-5 % overlap"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.benchmark
def test_profile(tmp_path: Path) -> None:
    output = tmp_path / "operators.md"
    options = ["images", "--backbone", "resnet_tiny", "--size", "16", "--batch-size", "4", "--device", "cpu"]
    command = [sys.executable, SCRIPTS / "profile_step.py", *options]
    subprocess.run([*command, "--output", output, "--trace", tmp_path / "trace.json"], check=True, capture_output=True)
    assert "convolution" in output.read_text()
    assert (tmp_path / "trace.json").stat().st_size > 1000
    done = subprocess.run([*command, "--arm", "RelDrop"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is none of plain step;" in done.stderr

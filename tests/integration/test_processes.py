"""Two processes against one."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from reldrop.runs.identity import run_folder
from tests.helpers.processes import (
    BROKEN,
    CLOUDS,
    ENVIRONMENT,
    EQUAL,
    RESNET,
    SHORT,
    STILL,
    TORCHRUN,
    assert_close,
    launch,
    trained,
)
from tests.helpers.processes_worker import train_until
from tests.helpers.runs import assert_same_run, command, config, metrics, weights, write_images

pytestmark = [pytest.mark.slow, pytest.mark.processes]


# ---- two processes against one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one(root: Path, name: str) -> None:
    cfg = config(root / "one" / name, *EQUAL[name])
    train_until(None, root / "one" / name, EQUAL[name])
    one, two = run_folder(cfg), trained(root, f"two/{name}")
    assert one.name == two.name
    assert_close(one, two)
    assert json.loads((two / "environment.json").read_text())["starts"][0]["processes"] == 2
    best = [torch.load(folder / "best.pt", weights_only=True)["epoch"] for folder in (one, two)]
    assert best[0] == best[1]


def test_two_to_one_and_one_to_two(root: Path) -> None:
    train_until(None, root / "whole", BROKEN)
    half = trained(root, "two_then_one")
    assert "the power went" in (half / "FAILED").read_text()
    state = torch.load(half / "last.pt", weights_only=True)
    assert (state["epoch"], state["batch"]) == (1, 2)
    assert state["meter"]["samples"] == 32
    train_until(None, root / "two_then_one", BROKEN)
    for name in ("two_then_one", "one_then_two"):
        assert_close(trained(root, "whole"), trained(root, name))
        starts = json.loads((trained(root, name) / "environment.json").read_text())["starts"]
        assert [start["processes"] for start in starts] == ([2, 1] if name == "two_then_one" else [1, 2])


def test_batch_norms_of_their_own(root: Path) -> None:
    """Each process normalizes by its share; their statistics are averaged, and losses stay near."""
    train_until(None, root / "own_norms_one", RESNET)
    one, two = (metrics(trained(root, name)) for name in ("own_norms_one", "own_norms"))
    assert one[-1]["train/loss"] == pytest.approx(two[-1]["train/loss"], rel=0.1)
    assert one[-1]["train/loss"] != pytest.approx(two[-1]["train/loss"], rel=1e-4)
    assert one[0]["step"] == two[0]["step"]


def test_gradients_of_shares_are_those_of_the_batch(root: Path) -> None:
    errors = json.loads((root / "gradients.json").read_text())
    assert errors.keys() == {"resnet_tiny", "pointnet", "pointnet2_ssg"}
    assert max(errors.values()) < 1e-8


def test_pointnet_sees_the_same(root: Path) -> None:
    """Weights hardly move here: rounding, which decides who wins a maximum of two near values, would change them at once."""
    train_until(None, root / "clouds_one", STILL)
    one, two = (metrics(trained(root, name)) for name in ("clouds_one", "clouds"))
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-4)


def test_pointnet_in_evaluation_mode_after_an_attribution(root: Path) -> None:
    folder = trained(root, "pointnet")
    steps = [value for key, value in weights(folder).items() if key.endswith("num_batches_tracked")]
    assert {int(value) for value in steps} == {0}
    train_until(None, root / "pointnet_one", [*CLOUDS, "trainer.eval_after_attribution=true"])
    assert_close(trained(root, "pointnet_one"), folder)


# ---- failures ------------------------------------------------------------------------------------------------------------


def test_an_error_in_one_process_ends_all_with_one_sentence(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "mine", {"train": 8, "test": 2})
    options = ["dataset=image_folder", "dataset.folder=mine", "dataset.size=32", "machine.memory_gb=0"]
    broken = tmp_path / "data" / "mine" / "train" / "class1" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = [
        *command(tmp_path, *options, f"data_dir={tmp_path / 'data'}", "trainer.batch_size=8", "machine.workers=0")
    ]
    done = launch(*arguments[1:])
    assert done.returncode != 0
    assert done.stderr.count("error: cannot decode image") == 1
    failed = next(tmp_path.glob("results/runs/*/*/*/FAILED"))
    assert str(broken) in failed.read_text()


def test_mistakes_are_said_once(tmp_path: Path) -> None:
    done = launch(*command(tmp_path, *SHORT, "optimizer.lr=1e30", "augmentation=none", "scheduler=constant")[1:])
    assert done.returncode != 0
    assert done.stderr.count("error: the loss is") == 1
    assert "epoch 1, batch 2" in next(tmp_path.glob("results/runs/*/*/*/FAILED")).read_text()


def test_more_mistakes_are_said_once(tmp_path: Path) -> None:
    said = launch(*command(tmp_path, "augmentaton=none")[1:]).stderr
    assert said.count("error: augmentaton is not a setting; did you mean augmentation?") == 1
    said = launch(*command(tmp_path, *SHORT, "trainer.batch_size=3")[1:]).stderr
    assert said.count("error: trainer.batch_size=3 is the batch of all processes together") == 1
    said = launch(*command(tmp_path, *SHORT, "dataset=cifar10", f"data_dir={tmp_path / 'nowhere'}")[1:]).stderr
    assert said.count("error: CIFAR10 not found") == 1


def test_resumes_after_kill_9(tmp_path: Path) -> None:
    options = [
        "optimizer.lr=0.005",
        "trainer.epochs=6",
        "dataset.subset=400",
        "monitor.checkpoint_every_steps=3",
        "augmentation=reldrop_pixel",
    ]
    assert launch(*command(tmp_path / "whole", *options)[1:]).returncode == 0
    arguments = command(tmp_path / "killed", *options)
    process = subprocess.Popen(
        [*TORCHRUN, *arguments[1:]], stderr=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True
    )
    while process.poll() is None and not list((tmp_path / "killed").glob("results/runs/*/*/*/last.pt")):
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert launch(*arguments[1:]).returncode == 0
    assert_same_run(trained(tmp_path, "whole"), trained(tmp_path, "killed"))  # bit for bit

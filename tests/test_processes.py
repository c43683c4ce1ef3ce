"""Several processes train and evaluate as one does: shares of batches, draws, sums, checkpoints, failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from processes_worker import train_until
from test_data import memory_data
from test_imagenet_data import imagenet, pictures  # noqa: F401 - a fixture
from test_points_data import memory_data as memory_clouds
from test_train import POINTS, assert_same_run, command, config, metrics, weights, write_images
from torch import Tensor

from reldrop.augmentation import Fill, RandomErasing, RandomPointDropout, RelDropBlock, RelDropPixel, RelDropPoint
from reldrop.data.cloud_transforms import Perturbation
from reldrop.errors import ReldropError
from reldrop.processes import Launch, launched
from reldrop.runs import run_folder
from reldrop.seeding import generator
from reldrop.shares import ALL, Part, Share

TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# 2 epochs of 6 batches of 16 and one of 7, of which the shares are 3 and 4; 2 processes have 3 and 2 batches of 53 tests.
SMALL = ["dataset.subset=103", "dataset.test_subset=53", "trainer.batch_size=16", "trainer.eval_batch_size=12"]
SHORT = [*SMALL, "trainer.epochs=2", "trainer.accelerator=cpu"]
VIT = [*SHORT, "backbone=vit_micro", "optimizer.lr=0.02"]
# A step size at which rounding does not grow: at the usual one, a change of 1e-7 in the first weights ends up above 1e-3.
RESNET = [*SHORT, "optimizer.lr=0.005"]
CLOUDS = [*POINTS, *RESNET, "dataset.subset=64", "optimizer=sgd"]
STILL = [*CLOUDS, "optimizer.lr=1e-9", "scheduler=constant", "dataset.jitter=0.01", "dataset.rotate=z"]
BROKEN = [*RESNET, "trainer.checkpoint_every=3"]
EQUAL = {
    "none": [*VIT, "augmentation=none"],
    "random_erasing": [*VIT, "augmentation=random_erasing", "augmentation.fill=noise"],
    "reldrop_block": [*VIT, "augmentation=reldrop_block", "trainer.clip_grad_norm=1.0"],
    "reldrop_pixel": [*VIT, "augmentation=reldrop_pixel"],
    "too_small_to_share": [*VIT, "dataset.subset=99"],  # a last batch of 3
    "batch_norm": [*RESNET, "dataset.validation=0.2", "trainer.evaluate_occlusion_every=2"],
    "zennit": [*RESNET, "attribution=zennit", "trainer.max_steps=3"],
    "input_gradient": [*RESNET, "attribution=input_gradient", "trainer.max_steps=3"],
}


def launch(*arguments: Any, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT
    )


def assert_close(one: Path, other: Path) -> None:
    assert len(metrics(one)) == len(metrics(other))
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            # Rounding decides in which order pixels of nearly the same relevance are hidden.
            tolerance = 0.02 if key.startswith("occlusion_") else 1e-4
            assert b[key] is None if value is None else value == pytest.approx(b[key], rel=1e-3, abs=tolerance), key
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained all that the tests below compare: to start them takes longer than to train."""
    root = tmp_path_factory.mktemp("processes")
    jobs = [{"folder": str(root / "two" / name), "overrides": chosen, "step": None} for name, chosen in EQUAL.items()]
    own = [*RESNET, "trainer.sync_batchnorm=false"]
    for name, overrides, step in (
        ("own_norms", own, None),
        ("clouds", STILL, None),
        ("pointnet", [*CLOUDS, "trainer.eval_after_attribution=true"], None),
        ("two_then_one", BROKEN, 11),
        ("one_then_two", BROKEN, None),
    ):
        jobs.append({"folder": str(root / name), "overrides": overrides, "step": step})
    train_until(11, root / "one_then_two", BROKEN)
    (root / "jobs.json").write_text(json.dumps(jobs))
    done = launch(TESTS / "processes_worker.py", root / "jobs.json", root / "gradients.json")
    assert done.returncode == 0, done.stderr
    return root


def trained(root: Path, name: str) -> Path:
    return next((root / name).glob("results/runs/*/*/seed0-*"))


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
    assert state["totals"]["samples"] == 32
    train_until(None, root / "two_then_one", BROKEN)
    for name in ("two_then_one", "one_then_two"):
        assert_close(trained(root, "whole"), trained(root, name))
        starts = json.loads((trained(root, name) / "environment.json").read_text())["starts"]
        assert [start["processes"] for start in starts] == ([2, 1] if name == "two_then_one" else [1, 2])


def test_batch_norms_of_their_own(root: Path) -> None:
    """Each process normalises by its share; their statistics are averaged, and losses stay near."""
    train_until(None, root / "own_norms_one", RESNET)
    one, two = (metrics(trained(root, name)) for name in ("own_norms_one", "own_norms"))
    assert one[-1]["train_loss"] == pytest.approx(two[-1]["train_loss"], rel=0.1)
    assert one[-1]["train_loss"] != pytest.approx(two[-1]["train_loss"], rel=1e-4)
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
    options = ["dataset=image_folder", "dataset.folder=mine", "dataset.size=32", "dataset.memory_limit_gb=0"]
    broken = tmp_path / "data" / "mine" / "train" / "class1" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = [
        *command(tmp_path, *options, f"data_dir={tmp_path / 'data'}", "trainer.batch_size=8", "dataset.workers=0")
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


@pytest.mark.slow
def test_more_mistakes_are_said_once(tmp_path: Path) -> None:
    said = launch(*command(tmp_path, "augmentaton=none")[1:]).stderr
    assert said.count("Could not override") == 1
    said = launch(*command(tmp_path, *SHORT, "trainer.batch_size=3")[1:]).stderr
    assert said.count("error: trainer.batch_size=3 is the batch of all processes together") == 1
    said = launch(*command(tmp_path, *SHORT, "dataset=cifar10", f"data_dir={tmp_path / 'nowhere'}")[1:]).stderr
    assert said.count("error: CIFAR10 not found") == 1


@pytest.mark.slow
def test_resumes_after_kill_9(tmp_path: Path) -> None:
    options = [
        "optimizer.lr=0.005",
        "trainer.epochs=6",
        "dataset.subset=400",
        "trainer.checkpoint_every=3",
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


# ---- srun ---------------------------------------------------------------------------------------------------------------


STEP = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_what_launchers_say() -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched({}) == launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Launch(0, 1, 1)
    assert launched(torchrun) == launched({**STEP, **torchrun}) == Launch(1, 2, 2)
    assert launched(STEP) == Launch(3, 4, 2)
    assert launched({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}) == Launch()
    with pytest.raises(ReldropError, match="--ntasks-per-node"):
        launched({**STEP, "SLURM_STEP_TASKS_PER_NODE": "3,1"})


def test_tasks_of_srun(tmp_path: Path) -> None:
    step = {**STEP, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    step["SLURM_JOB_ID"], step["SLURM_NODEID"] = str(os.getpid()), "0"
    tasks = [
        subprocess.Popen(
            command(tmp_path / "two", *RESNET, "trainer.max_steps=2"),
            env={**ENVIRONMENT, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]
    assert [task.wait(60) for task in tasks] == [0, 0]
    train_until(None, tmp_path / "one", [*RESNET, "trainer.max_steps=2"])
    assert_close(trained(tmp_path, "one"), trained(tmp_path, "two"))


# ---- shares, without processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_are_all_of_a_batch_once(processes: int) -> None:
    shares = [Share(rank, processes) for rank in range(processes)]
    for count in range(1, 24):
        parts = [share.of(count) for share in shares]
        assert sum(part.items for part in parts) == count
        assert all(part.stop - part.start >= min(2, count) for part in parts)
        if count >= 2 * processes:
            assert [row for part in parts for row in range(count)[part.rows]] == list(range(count))
        else:
            assert [part.items for part in parts] == [count] + [0] * (processes - 1)
        order = torch.arange(count)
        evaluated = torch.cat([share.batches(order, 3) for share in shares])
        assert torch.equal(evaluated.sort().values, order)


def assert_shares_of(whole: Any, shared: list[Any]) -> None:
    for batch, *parts in zip(whole, *shared, strict=True):
        if len(batch[1]) < 2 * len(parts):
            parts = parts[:1]  # too small to be shared
        together = [torch.cat(each) for each in zip(*parts, strict=True)]
        assert torch.equal(batch[0], together[0])
        assert torch.equal(batch[1], together[1])


def test_shares_of_images_and_clouds() -> None:
    for data in (memory_data(23, crop_padding=2, flip=True), memory_clouds(23)):
        batches = [
            list(data.train_batches(1, batch_size=9, seed=3, start=1, share=share))
            for share in (ALL, *(Share(rank, 2) for rank in range(2)))
        ]
        assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize("corrupt", ["error", "skip"])
def test_shares_of_random_resized_crops(pictures: Path, corrupt: str) -> None:  # noqa: F811
    if corrupt == "skip":
        broken = sorted(pictures.rglob("*.*"))[0]
        broken.write_bytes(broken.read_bytes()[:100])
    data = imagenet(pictures, corrupt=corrupt)
    batches = [
        list(data.train_batches(1, batch_size=4, seed=3, share=share))
        for share in (ALL, *(Share(rank, 2) for rank in range(2)))
    ]
    assert_shares_of(batches[0], batches[1:])


@pytest.mark.parametrize(
    "occlusion",
    [
        RandomErasing(fill="noise"),
        RelDropBlock(k=3),
        RelDropBlock(cell=4),
        RelDropPixel(coin="batch", probability=0.7),
        RandomPointDropout(),
        RelDropPoint(probability=0.4),
    ],
)
def test_shares_of_occlusions(occlusion: Any) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(*((11, 50, 6) if occlusion.inputs == "points" else (11, 3, 16, 16)), generator=draws)
    asked: list[int] = []

    def relevance(samples: Tensor, classes: Tensor) -> Tensor:
        asked.append(len(samples))
        return samples.sum(1) if samples.ndim == 4 else samples.sum(2)

    def occluded(share: Share) -> Tensor:
        part = share.of(len(inputs))
        rows = inputs[part.rows]
        return occlusion(rows, torch.zeros(len(rows)), relevance, torch.Generator().manual_seed(1), part)

    whole = occluded(ALL)
    assert torch.equal(torch.cat([occluded(Share(rank, 3)) for rank in range(3)]), whole)
    assert sum(asked[1:]) == sum(asked[:1])
    assert torch.equal(occlusion(inputs, torch.zeros(11), relevance, torch.Generator().manual_seed(1)), whole)


def test_shares_of_noise_and_perturbations() -> None:
    clouds = torch.randn(9, 20, 6)
    perturbation = Perturbation((0.5, 2), 0.3, "any", 0.02)
    images = torch.randn(9, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    mask = torch.ones(9, 8, 8, dtype=torch.bool)
    parts = [Part.whole(9), *(Share(rank, 2).of(9) for rank in range(2))]
    moved = [perturbation(clouds[part.rows], generator(0, "test"), part) for part in parts]
    noise = [Fill("noise")(images[part.rows], mask[part.rows], generator(0, "test"), part) for part in parts]
    for whole, *shares in (moved, noise):
        assert torch.equal(torch.cat(shares), whole)

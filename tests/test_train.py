"""The loop and the entry point: learning, resuming, refusing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from reldrop.augmentation import RelDropBlock
from reldrop.backbones import resnet
from reldrop.errors import ReldropError
from reldrop.runs import run_folder
from reldrop.train import CONFIG_PATH, train

QUICK = ["trainer.epochs=3", "dataset.subset=200", "dataset.test_subset=50", "trainer.batch_size=32"]
EXPERIMENTS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "experiment").glob("*.yaml"))
AUGMENTATIONS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "augmentation").glob("*.yaml"))
ATTRIBUTIONS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "attribution").glob("*.yaml"))
TIMING = ("samples_per_second", "attribution_share")


def config(tmp_path: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose("train", [f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}", *overrides])


def metrics(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMING} for record in records]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.pt", weights_only=True)["model"]


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def command(tmp_path: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "reldrop.train", f"results_dir={tmp_path / 'results'}", *overrides]


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


# ---- every choice runs -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(tmp_path: Path, experiment: str) -> None:
    fake_data(tmp_path / "data")
    fake_clouds(tmp_path / "data")
    cfg = config(tmp_path, f"+experiment={experiment}", "trainer.max_steps=2", "trainer.batch_size=4")
    if "points" in cfg.dataset:
        cfg.dataset.points = 32
    if "eval_resize" in cfg.dataset:
        cfg.dataset.size, cfg.dataset.eval_resize, cfg.dataset.workers = 32, 36, 1
    cfg.backbone.weights = None
    summary = train(cfg)
    assert cfg.name == experiment
    assert summary["steps"] == 2
    assert 0 <= summary["test_top1"] <= 1


# Generated clouds and a small budget: what the tests of point clouds train on.
POINTS = ["+experiment=shapes_pointnet", "dataset.points=64", "dataset.subset=64", "dataset.test_subset=20"]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_every_augmentation_runs(tmp_path: Path, augmentation: str) -> None:
    overrides = ["augmentation.fill=[255]"] if augmentation == "random_erasing_release" else []
    data = POINTS if "point" in augmentation else QUICK
    cfg = config(tmp_path, *data, f"augmentation={augmentation}", "trainer.epochs=1", *overrides)
    record = train(cfg) and metrics(run_folder(cfg))[0]
    assert (record["occluded_share"] > 0) == (augmentation != "none") or cfg.augmentation.get("coin") == "batch"
    assert (record["conservation"] is not None) == augmentation.startswith("reldrop")


@pytest.mark.parametrize("data", ["images", "points"])
@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_every_attribution_runs(tmp_path: Path, attribution: str, data: str) -> None:
    if (attribution, data) == ("recycled", "points"):
        pytest.skip("for images only")
    chosen = POINTS if data == "points" else QUICK
    cfg = config(tmp_path, *chosen, f"attribution={attribution}", "trainer.max_steps=3")
    record = train(cfg) and metrics(run_folder(cfg))[0]
    assert (record["conservation"] is not None) == (attribution in ("gradient", "official", "zennit"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adam"],
        ["optimizer=adamw", "scheduler=exponential", "scheduler.warmup_epochs=1"],
        ["scheduler=step", "trainer.label_smoothing=0.1", "trainer.clip_grad_norm=1.0"],
        ["trainer.precision=bf16-mixed", "trainer.channels_last=true"],
        ["dataset.validation=0.2", "scheduler=constant", "backbone.drop_path=0.2"],
        [*POINTS, "backbone=pointnet2_ssg", "dataset.normals=false", "dataset.validation=0.2", "trainer.max_steps=2"],
        [*POINTS, "dataset.rotate=any", "dataset.jitter=0.01", "augmentation=none", "trainer.precision=bf16-mixed"],
        [*POINTS, "backbone=pointnet2_ssg", "trainer.precision=bf16-mixed", "trainer.max_steps=2"],
    ],
)
def test_options_run(tmp_path: Path, overrides: list[str]) -> None:
    cfg = config(tmp_path, *QUICK, "trainer.max_steps=8", *overrides)
    summary = train(cfg)
    assert ("selected_test_top1" in summary) == (cfg.dataset.validation > 0)


def test_learns(tmp_path: Path) -> None:
    summary = train(config(tmp_path, "trainer.epochs=12"))
    assert summary["test_top1"] > 0.8


def test_learns_from_points(tmp_path: Path) -> None:
    options = ["+experiment=shapes_pointnet", "dataset.points=64", "augmentation=random_point_dropout"]
    summary = train(config(tmp_path, *options, "trainer.epochs=4"))
    assert summary["test_top1"] > 0.3  # chance is 0.1
    assert 0 < summary["test_class_mean"] <= summary["best_test_class_mean"]


@pytest.mark.parametrize("augmentation", ["reldrop_point", "none"])
def test_the_eval_mode_quirk_freezes_batch_norm(tmp_path: Path, augmentation: str) -> None:
    """The release leaves the network in evaluation mode after the first attribution of an epoch, hence for all of it."""
    cfg = config(
        tmp_path, *POINTS, f"augmentation={augmentation}", "trainer.max_steps=2", "trainer.eval_after_attribution=true"
    )
    train(cfg)
    steps = [value for key, value in weights(run_folder(cfg)).items() if key.endswith("num_batches_tracked")]
    assert {int(value) for value in steps} == ({0} if augmentation == "reldrop_point" else {2})


@pytest.mark.parametrize("reset_head", [True, False])
def test_starts_from_a_checkpoint_file(tmp_path: Path, reset_head: bool) -> None:
    cfg = config(tmp_path, *QUICK)
    train(cfg)
    start = run_folder(cfg) / "best.pt"
    saved = torch.load(start, weights_only=True)["model"]
    model = resnet("resnet_tiny", num_classes=10, channels=1, size=8, weights=str(start), reset_head=reset_head)
    differs = {key for key, value in model.state_dict().items() if not torch.equal(value, saved[key])}
    assert differs == ({"fc.weight", "fc.bias"} if reset_head else set())
    assert not reset_head or 0.008 < model.fc.weight.std() < 0.012


# ---- resuming ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [*QUICK, "backbone.drop_path=0.3"],
        [*QUICK, "backbone.drop_path=0.3", "trainer.checkpoint_every=2"],
        [*POINTS, "trainer.batch_size=8", "trainer.checkpoint_every=3", "trainer.epochs=2"],
        [
            *(*POINTS, "trainer.batch_size=8", "trainer.checkpoint_every=3", "trainer.epochs=2"),
            "trainer.eval_after_attribution=true",
        ],
    ],
)
def test_resumes_exactly_after_an_error(tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from reldrop.loop import Loop

    whole = config(tmp_path / "whole", *options)
    train(whole)
    broken = config(tmp_path / "broken", *options)
    update = Loop._update

    def fail_once(self: Loop, loss: torch.Tensor) -> None:
        if self.step == 11:
            raise OSError("the power went")
        update(self, loss)

    monkeypatch.setattr(Loop, "_update", fail_once)
    with pytest.raises(OSError, match="power"):
        train(broken)
    folder = run_folder(broken)
    assert "the power went" in (folder / "FAILED").read_text()
    monkeypatch.undo()
    train(broken)
    assert not (folder / "FAILED").exists()
    assert_same_run(folder, run_folder(whole))


def test_resumes_behind_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the checkpoint of the last step and the evaluation must not lead to a further step."""
    from reldrop.loop import Loop

    options = [*QUICK, "trainer.max_steps=9", "trainer.checkpoint_every=3"]
    whole = config(tmp_path / "whole", *options)
    train(whole)
    broken = config(tmp_path / "broken", *options)
    evaluate = Loop._evaluate

    def fail_at_the_end(self: Loop) -> dict[str, Any]:
        if self.step == 9:
            raise OSError("the power went")
        return evaluate(self)

    monkeypatch.setattr(Loop, "_evaluate", fail_at_the_end)
    with pytest.raises(OSError, match="power"):
        train(broken)
    monkeypatch.undo()
    assert train(broken)["steps"] == 9
    assert_same_run(run_folder(broken), run_folder(whole))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.9])
def test_resumes_exactly_after_kill_9(tmp_path: Path, seconds: float) -> None:
    options = ["trainer.epochs=8", "dataset.subset=400", "trainer.checkpoint_every=3", "augmentation=reldrop_pixel"]
    subprocess.run(command(tmp_path / "whole", *options), check=True, capture_output=True)
    whole = next((tmp_path / "whole").glob("results/runs/*/*/seed0-*"))
    process = subprocess.Popen(command(tmp_path / "killed", *options), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "killed").glob("results/runs/*/*/*/last.pt")):
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = next((tmp_path / "killed").glob("results/runs/*/*/seed0-*"))
    subprocess.run(command(tmp_path / "killed", *options), check=True, capture_output=True)
    assert_same_run(whole, killed)


def test_same_command_again_does_nothing_and_force_starts_over(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK)
    first = train(cfg)
    stamp = (run_folder(cfg) / "last.pt").stat().st_mtime_ns
    assert train(cfg) == first
    assert (run_folder(cfg) / "last.pt").stat().st_mtime_ns == stamp
    before = metrics(run_folder(cfg))
    train(config(tmp_path, *QUICK, "force=true"))
    assert (run_folder(cfg) / "last.pt").stat().st_mtime_ns != stamp
    assert metrics(run_folder(cfg)) == before


def test_zennit_gives_the_same_masks_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast attribution beside the slow one, through a whole training."""
    found: dict[str, list[torch.Tensor]] = {}
    mask = RelDropBlock.mask
    for attribution in ("gradient", "zennit"):
        masks = found[attribution] = []

        def keep(self: RelDropBlock, *arguments: Any, masks: list[torch.Tensor] = masks) -> torch.Tensor:
            masks.append(mask(self, *arguments))
            return masks[-1]

        monkeypatch.setattr(RelDropBlock, "mask", keep)
        train(config(tmp_path, *QUICK, f"attribution={attribution}", "augmentation=reldrop_block", "optimizer.lr=0.01"))
    assert len(found["gradient"]) == 21
    assert all(torch.equal(one, other) for one, other in zip(*found.values(), strict=True))
    curves = [metrics(folder.parent) for folder in sorted(tmp_path.rglob("metrics.jsonl"))]
    for one, other in zip(*curves, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["test_top1"] == other["test_top1"]


def test_the_arms_see_the_same_images(tmp_path: Path) -> None:
    """Training without occlusion does not depend on what other arms draw: same seed, same crops, same order, same start."""
    none = config(tmp_path, *QUICK, "augmentation=none")
    never = config(tmp_path, *QUICK, "augmentation=reldrop_block", "augmentation.probability=0")
    train(none)
    train(never)
    a, b = weights(run_folder(none)), weights(run_folder(never))
    assert all(torch.equal(a[key], b[key]) for key in a)


# ---- mistakes --------------------------------------------------------------------------------------------------------------


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
        ("backbone.name=seresnet18", "layer1.0.se.gate"),
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
        ("attribution.middle=zplus", "middle=epsilon"),
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
    heavy = {"lightning_fabric", "matplotlib", "scipy", "timm", "torchmetrics", "torchvision", "wandb", "zennit"}
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
    from reldrop.runs import Run

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


def test_tables_and_figures_read_run_folders(tmp_path: Path) -> None:
    from reldrop.figures import figure_of_run
    from reldrop.reporting.formats import terminal
    from reldrop.reporting.layouts import table_of_settings
    from reldrop.reporting.records import read_runs
    from reldrop.reporting.scores import Score

    for seed in (0, 1):
        cfg = config(tmp_path, *QUICK, f"seed={seed}")
        train(cfg)
    runs, remarks = read_runs(tmp_path / "results")
    assert not remarks
    assert [run.seed for run in runs] == [0, 1]
    lines = terminal(table_of_settings(runs, [Score("test_top1")], 0.95)).splitlines()
    row = next(line for line in lines if "reldrop_block" in line)
    mean = 50 * sum(run.figures["test_top1"] for run in runs)
    assert f"{mean:.2f} ±" in row
    figure_of_run(run_folder(cfg)).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    cfg = config(tmp_path, *POINTS, "trainer.max_steps=1")
    train(cfg)
    figure = figure_of_run(run_folder(cfg))
    assert len(figure.axes) == 3 * 6  # relevance, random dropout and RelDrop of six clouds
    figure.savefig(tmp_path / "clouds.png")
    assert (tmp_path / "clouds.png").stat().st_size > 10_000
    with pytest.raises(ReldropError, match="no run folder"):
        figure_of_run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "experiment"), [("psb19_normal_resampled", "psb_pointnet"), ("modelnet40_fragment", "")]
)
def test_real_clouds(tmp_path: Path, name: str, experiment: str) -> None:
    data = Path(os.environ.get("RELDROP_DATA", "data"))
    if not (data / name).is_dir():
        pytest.skip(f"needs {name} in RELDROP_DATA")
    options = [f"+experiment={experiment or 'modelnet_pointnet2'}", "dataset.points=128", "trainer.batch_size=16"]
    cfg = config(tmp_path, *options, f"data_dir={data}", f"dataset.cache_dir={tmp_path / 'cache'}")
    cfg.trainer.epochs, cfg.scheduler = 4, config(tmp_path, "scheduler=cosine").scheduler
    summary = train(cfg)
    assert summary["train_loss"] < 3.6
    assert not experiment or summary["test_top1"] > 0.15  # chance is 0.05


@pytest.mark.skipif(
    not (Path(os.environ.get("RELDROP_DATA", "data")) / "cifar10_jpeg").is_dir(),
    reason="needs cifar10_jpeg in RELDROP_DATA",
)
def test_real_cifar_images(tmp_path: Path) -> None:
    data = os.environ.get("RELDROP_DATA", "data")
    cfg = config(
        tmp_path, "+experiment=cifar_resnet", f"data_dir={data}", "backbone=resnet_tiny", "dataset.subset=2000"
    )
    cfg.dataset.test_subset, cfg.trainer.epochs = 500, 4
    assert train(cfg)["test_top1"] > 0.2

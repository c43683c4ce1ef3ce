"""Train."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.augmentation import RelDropBlock
from reldrop.backbones import timm_model
from reldrop.config import CONFIG_PATH
from reldrop.data import Data
from reldrop.runs.identity import run_folder
from reldrop.train import train
from tests.helpers.runs import POINTS, QUICK, config, fake_clouds, fake_data, metrics, weights

EXPERIMENTS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "experiment").glob("*.yaml"))


AUGMENTATIONS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "augmentation").glob("*.yaml"))


ATTRIBUTIONS = sorted(str(path.stem) for path in (Path(CONFIG_PATH) / "attribution").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(tmp_path: Path, experiment: str) -> None:
    fake_data(tmp_path / "data")
    fake_clouds(tmp_path / "data")
    cfg = config(tmp_path, f"+experiment={experiment}", "trainer.max_steps=2", "trainer.batch_size=4")
    if "points" in cfg.dataset:
        cfg.dataset.points = 32
    if "eval_resize" in cfg.dataset:
        cfg.dataset.size, cfg.dataset.eval_resize, cfg.machine.workers = 32, 36, 1
    cfg.backbone.weights = None
    summary = train(cfg)
    assert cfg.name == experiment
    assert summary["steps"] == 2
    assert 0 <= summary["test/top1"] <= 1


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_every_augmentation_runs(tmp_path: Path, augmentation: str) -> None:
    overrides = ["augmentation.fill=[255]"] if augmentation == "random_erasing_release" else []
    data = POINTS if "point" in augmentation or "ball" in augmentation else QUICK
    cfg = config(tmp_path, *data, f"augmentation={augmentation}", "trainer.epochs=1", *overrides)
    record = train(cfg) and metrics(run_folder(cfg))[0]
    assert (record["train/occluded_share"] > 0) == (augmentation != "none") or cfg.augmentation.get(
        "decide_per"
    ) == "batch"
    assert (record["attribution/conservation"] is not None) == augmentation.startswith("reldrop")


@pytest.mark.parametrize("data", ["images", "points"])
@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_every_attribution_runs(tmp_path: Path, attribution: str, data: str) -> None:
    if attribution in ("recycled", "fast") and data == "points":
        pytest.skip("for images only")
    if attribution == "captum":
        pytest.importorskip("captum", reason="the extra captum is not installed")
    chosen = POINTS if data == "points" else QUICK
    cfg = config(tmp_path, *chosen, f"attribution={attribution}", "trainer.max_steps=3")
    record = train(cfg) and metrics(run_folder(cfg))[0]
    assert (record["attribution/conservation"] is not None) == (
        attribution in ("gradient", "fast", "release", "zennit")
    )


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
        [
            *POINTS,
            "backbone=pointnet2_ssg",
            "trainer.precision=bf16-mixed",
            "trainer.max_steps=2",
            "dataset.test_subset=10",
        ],
    ],
)
def test_options_run(tmp_path: Path, overrides: list[str]) -> None:
    cfg = config(tmp_path, *QUICK, "trainer.max_steps=8", *overrides)
    summary = train(cfg)
    assert ("test/selected_top1" in summary) == (cfg.dataset.validation > 0)


def test_a_trial_of_everything_leaves_nothing_behind(tmp_path: Path) -> None:
    """One batch of each split, also beside a run of the same settings."""
    validation = "dataset.validation=0.2"
    whole = config(tmp_path, *QUICK, validation, "trainer.max_steps=1")
    train(whole)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    seen: list[int] = []
    batches = Data.eval_batches

    def counted(data: Data, split: str, **options: Any) -> Any:
        for batch in batches(data, split, **options):
            seen.append(len(batch.inputs))
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Data, "eval_batches", counted)
        summary = train(config(tmp_path, *QUICK, validation, "trainer.fast_dev_run=true"))
    assert summary["steps"] == 1
    assert sorted(seen) == [4, 4, 32, 32, 32]  # occlusion, guidance, and the three splits
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_learns(tmp_path: Path) -> None:
    summary = train(config(tmp_path, "trainer.epochs=12"))
    assert summary["test/top1"] > 0.8


def test_learns_from_points(tmp_path: Path) -> None:
    options = ["+experiment=shapes_pointnet", "dataset.points=64", "augmentation=random_point_dropout"]
    summary = train(config(tmp_path, *options, "trainer.epochs=4"))
    assert summary["test/top1"] > 0.3  # chance is 0.1
    assert 0 < summary["test/class_mean"] <= summary["test/best_class_mean"]


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
    model = timm_model("resnet_tiny", num_classes=10, channels=1, size=8, weights=str(start), reset_head=reset_head)
    differs = {key for key, value in model.state_dict().items() if not torch.equal(value, saved[key])}
    assert differs == ({"fc.weight", "fc.bias"} if reset_head else set())
    assert not reset_head or 0.008 < model.fc.weight.std() < 0.012


def test_zennit_gives_the_same_masks_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast attribution beside the slow one, through a whole training.

    With the Flat rule, pixels under the same kernels are equally relevant, but for rounding. A slope breaks such ties.
    """
    found: dict[str, list[torch.Tensor]] = {}
    mask, make_mask = RelDropBlock.mask, RelDropBlock.make_mask
    slope = 1e-3 * torch.rand(8, 8, generator=torch.Generator().manual_seed(0))

    def without_ties(self: RelDropBlock, maps: torch.Tensor, *draws: torch.Tensor) -> torch.Tensor:
        return make_mask(self, maps + slope * maps.abs().amax((1, 2), keepdim=True), *draws)

    monkeypatch.setattr(RelDropBlock, "make_mask", without_ties)
    for attribution in ("gradient", "zennit"):
        masks = found[attribution] = []

        def keep(self: RelDropBlock, *arguments: Any, masks: list[torch.Tensor] = masks) -> torch.Tensor:
            masks.append(mask(self, *arguments))
            return masks[-1]

        monkeypatch.setattr(RelDropBlock, "mask", keep)
        options = ["augmentation=reldrop_block", "optimizer.lr=0.01", "monitor.guidance_samples=null"]
        train(config(tmp_path, *QUICK, f"attribution={attribution}", *options))
    assert len(found["gradient"]) == 23  # the first two in the trial before training
    assert all(torch.equal(one, other) for one, other in zip(*found.values(), strict=True))
    curves = [metrics(folder.parent) for folder in sorted(tmp_path.rglob("metrics.jsonl"))]
    for one, other in zip(*curves, strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
        assert one["test/top1"] == other["test/top1"]


def test_the_arms_see_the_same_images(tmp_path: Path) -> None:
    """Training without occlusion does not depend on what other arms draw: same seed, same crops, same order, same start."""
    none = config(tmp_path, *QUICK, "augmentation=none")
    never = config(tmp_path, *QUICK, "augmentation=reldrop_block", "augmentation.probability=0")
    train(none)
    train(never)
    a, b = weights(run_folder(none)), weights(run_folder(never))
    assert all(torch.equal(a[key], b[key]) for key in a)

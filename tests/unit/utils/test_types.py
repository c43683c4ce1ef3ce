"""Settings are checked by the annotations of what they are for, before anything is touched."""

import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from reldrop import attribution, augmentation, data
from reldrop.backbones import point_network, timm_model
from reldrop.config import CONFIG_PATH, RunSettings, check_choices, check_group, check_keys
from reldrop.data.points.transforms import PointTransform
from reldrop.evaluate import evaluate
from reldrop.evaluation.robustness import Robustness
from reldrop.evaluation.zero_shot import ZeroShot
from reldrop.runs.identity import run_folder
from reldrop.runs.tracking import TrackingConfig
from reldrop.sweeps.local import Parallel
from reldrop.sweeps.outcomes import report
from reldrop.sweeps.slurm import Slurm
from reldrop.train import command, train
from reldrop.training import schedulers as schedules
from reldrop.training.config import TrainerConfig
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, Fraction, check_settings, checked, schema

if typing.TYPE_CHECKING:
    from nowhere import Unknown

WHOLE, NUMBER, FINITE, SWITCH, LIST = "a whole number", "a number", "a finite number", "true or false", "a list"
POINTS, SLURM = ("+experiment=shapes_pointnet",), ("launcher=slurm",)
WRONG = [  # choices, setting, what it must be
    ((), "force=no", SWITCH),
    ((), "force=1", SWITCH),
    ((), "seed=[0,1]", f"{WHOLE}; for several runs: -m seed=0,1"),
    ((), "seed=-1", "at least 0"),
    ((), "seed=1.5", WHOLE),
    ((), "seed=9223372036854775808", "at most 9223372036854775807"),
    ((), "seed=null", WHOLE),
    ((), "name=null", "text or a number"),
    ((), "name=true", "text or a number"),
    ((), "results_dir=null", "text"),
    ((), "results_dir=3", "text"),
    ((), "data_dir=[a]", "text; for several runs: -m data_dir=a"),
    ((), "trainer.epochs=1.5", WHOLE),
    ((), "trainer.epochs=inf", WHOLE),
    ((), "trainer.epochs='3'", WHOLE),
    ((), "trainer.epochs=true", WHOLE),
    ((), "trainer.epochs=0", "at least 1"),
    ((), "trainer.epochs=[1,2]", f"{WHOLE}; for several runs: -m trainer.epochs=1,2"),
    ((), "trainer.max_steps=0", "at least 1 or null"),
    ((), "trainer.batch_size=64.5", WHOLE),
    ((), "trainer.batch_size=1", "at least 2"),
    ((), "trainer.precision=8-bit", "'32-true', 'bf16-mixed' or '16-mixed'"),
    ((), "machine.accelerator=gpu", "'auto', 'cpu', 'cuda' or 'mps'"),
    ((), "trainer.compile=no", SWITCH),
    ((), "trainer.channels_last=off", SWITCH),
    ((), "trainer.label_smoothing=1.0", "below 1"),
    ((), "trainer.label_smoothing=nan", FINITE),
    ((), "trainer.clip_grad_norm=0", "above 0 or null"),
    ((), "trainer.clip_grad_norm=inf", f"{FINITE} or null"),
    ((), "monitor.checkpoint_every_steps=yes", f"{WHOLE} or null"),
    ((), "monitor.keep_every_epochs=0", "at least 1 or null"),
    ((), "machine.progress=0", SWITCH),
    ((), "dataset.flip=no", SWITCH),
    ((), "dataset.flip=off", SWITCH),
    ((), "dataset.subset=true", f"{WHOLE} or null"),
    ((), "dataset.subset=0", "at least 1 or null"),
    ((), "dataset.crop_padding=1.5", WHOLE),
    ((), "dataset.mean=0.5", LIST),
    ((), "dataset.mean=[x]", f"{NUMBER} at index 0"),
    ((), "dataset.std=[0]", "above 0 at index 0"),
    ((), "dataset.validation=1", "below 1"),
    (("dataset=cifar10",), "dataset.num_classes=20", "10 or 100"),
    ((), "machine.download=yes", SWITCH),
    ((), "machine.workers=-1", "at least 0 or null"),
    ((), "machine.memory_gb=nan", FINITE),
    (("dataset=tiny_imagenet",), "dataset.folders=x", LIST),
    (("dataset=imagenet",), "dataset.interpolation=nearest", "'bilinear' or 'bicubic'"),
    (("dataset=imagenet",), "dataset.crop_scale=[0.5]", "a list of at least 2 values or null"),
    (("dataset=imagenet",), "dataset.crop_ratio=[1,2,3]", "a list of at most 2 values"),
    (("dataset=imagenet",), "dataset.train_split=test", "'train' or 'val'"),
    (("dataset=imagenet",), "dataset.on_decode_error=ignore", "'error' or 'skip'"),
    (POINTS, "dataset.points=1", "at least 2"),
    (POINTS, "dataset.normals=no", SWITCH),
    (POINTS, "dataset.rotate=w", "'x', 'y', 'z' or 'any' or null"),
    (POINTS, "dataset.scale=[0,1]", "above 0 at index 0 or null"),
    (POINTS, "dataset.jitter=-1", "at least 0"),
    ((), "backbone.reset_head=no", SWITCH),
    ((), "backbone.drop_path=no", NUMBER),
    ((), "backbone.drop_path=1", "below 1"),
    ((), "backbone.stem=tall", "'auto', 'cifar' or 'imagenet'"),
    ((), "backbone.weights=3", "text or null"),
    (("backbone=vit_micro",), "backbone.patch=0", "at least 1 or null"),
    (POINTS, "backbone.name=pointnet3", "'pointnet', 'pointnet2_ssg' or 'pointnet2_msg'"),
    ((), "augmentation.k=1.5", WHOLE),
    ((), "augmentation.k=0", "at least 1"),
    ((), "augmentation.cell=2.5", WHOLE),
    ((), "augmentation.probability=2", "at most 1"),
    ((), "augmentation.probability=nan", FINITE),
    ((), "augmentation.decide_per=pixel", "'image' or 'batch'"),
    ((), "augmentation.scale=[0.1,x]", f"{NUMBER} at index 1"),
    ((), "augmentation.ratio=0", "above 0"),
    ((), "augmentation.fill=first", "'mean', 'zero', 'noise' or 'raw_mean' or a number or a list"),
    (POINTS, "augmentation.alpha=2", "at most 1"),
    (POINTS, "augmentation.fill=zero", "'mean', 'noise' or 'first' or a number or a list"),
    ((), "attribution.epsilon=-1", "at least 0"),
    ((), "attribution.conv_rule=alphabeta", "'epsilon', 'zplus' or 'gamma'"),
    (("attribution=zennit",), "attribution.canonizer=vgg", "'timm', 'torchvision' or 'none'"),
    (("attribution=center",), "attribution.width=0", "above 0"),
    ((), "optimizer.lr=fast", NUMBER),
    ((), "optimizer.lr=inf", FINITE),
    ((), "optimizer.momentum=nan", FINITE),
    ((), "optimizer.weight_decay=nan", FINITE),
    ((), "optimizer.nesterov=no", SWITCH),
    (("optimizer=adamw",), "optimizer.weight_decay=inf", FINITE),
    (("optimizer=adam",), "optimizer.lr=nan", FINITE),
    ((), "scheduler.warmup_epochs=-1", "at least 0"),
    (("scheduler=step",), "scheduler.step_size=0.5", WHOLE),
    (("scheduler=step",), "scheduler.gamma=nan", FINITE),
    ((), "tracking.mode=loud", "'disabled', 'online' or 'offline'"),
    ((), "tracking.tags=a", LIST),
    ((), "tracking.project=null", "text or a number"),
    (("launcher=parallel",), "launcher.jobs=0", "at least 1 or null"),
    (SLURM, "launcher.nodes=1.5", WHOLE),
    (SLURM, "launcher.mem_gb=0", "above 0 or null"),
    (SLURM, "launcher.wait=no", SWITCH),
    (SLURM, "launcher.slurm_setup=module", LIST),
    (SLURM, "launcher.slurm_additional_parameters=long", "a mapping or null"),
    (SLURM, "launcher.cluster=pbs", "'slurm' or 'local'"),
]
MISSPELT = {
    "+sed=3": "sed is not a setting; did you mean seed?",
    "+trainer.epoch=3": "trainer.epoch is not a setting; did you mean trainer.epochs?",
    "+optimizer.momentun=0": "did you mean optimizer.momentum?",
    "+tracking.tag=a": "did you mean tracking.tags?",
    "+launcher.jobs=2": "launcher.jobs is not a setting",
    "+scale.sufix=_x": "did you mean scale.suffix?",
    "optimizer._target_=torch.optim.Adum": "optimizer._target_=torch.optim.Adum cannot be imported",
    "optimizer._target_=torch.optim": "optimizer._target_=torch.optim is no class or function",
    "optimizer._target_=3": "optimizer._target_=3 cannot be imported",
    "~dataset": "dataset has no choice; set dataset=NAME, one of cifar10, ",
    "~launcher": "launcher has no choice; set launcher=NAME, one of local, ",
}
WRONG_EVALUATION = [
    ("figures=no", SWITCH),
    ("force=no", SWITCH),
    ("limit=1.5", f"{WHOLE} or null"),
    ("machine.workers=-1", "at least 0 or null"),
    ("checkpoint=first", "'last' or 'best'"),
    ("run={a: 1}", "text or a number or a list or null"),
    ("suite.steps=0", "at least 1"),
    ("suite.blocks=[0.5,1]", "below 1 at index 1"),
    ("suite.seed=x", WHOLE),
    ("attribution.epsilon=nan", FINITE),
]


def composed(*overrides: str, name: str = "train") -> Any:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose(name, list(overrides))


@pytest.mark.parametrize(("choices", "setting", "wanted"), WRONG, ids=[each[1] for each in WRONG])
def test_wrong_settings_are_named_with_what_would_be_right(choices: tuple[str, ...], setting: str, wanted: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(ReldropError, match=f"^{re.escape(key)}=.* must be {re.escape(wanted)}$") as caught:
        check_keys(composed(*choices, setting))
    assert "\n" not in str(caught.value)


def test_a_group_without_a_choice() -> None:
    check_choices(["dataset=cifar10", "seed=null", "+optimizer.momentum=0"])
    with pytest.raises(ReldropError, match="dataset has no choice; set dataset=NAME, one of cifar10, "):
        check_choices(["seed=1", "dataset=null"])


@pytest.mark.parametrize("override", MISSPELT)
def test_misspelt_settings(override: str) -> None:
    with pytest.raises(ReldropError, match=re.escape(MISSPELT[override])):
        check_keys(composed(override))


@pytest.mark.parametrize(("setting", "wanted"), WRONG_EVALUATION)
def test_wrong_settings_of_evaluations(tmp_path: Path, setting: str, wanted: str) -> None:
    cfg = composed(f"results_dir={tmp_path}", "run=nowhere", setting, name="evaluate")
    with pytest.raises(ReldropError, match=f"^{setting.partition('=')[0]}=.* must be {re.escape(wanted)}$"):
        evaluate(cfg)
    assert not list(tmp_path.iterdir())


def test_every_choice_passes() -> None:
    groups = [
        path for path in Path(CONFIG_PATH).iterdir() if path.is_dir() and path.name not in ("experiment", "hydra")
    ]
    choices = [(group.name, path.stem) for group in groups for path in group.glob("[!_]*.yaml")]
    assert len(choices) > 50
    for group, choice in choices:
        folder = ["dataset.folder=some"] if choice.endswith("_folder") else []
        if group == "suite":
            check_group(composed(f"suite={choice}", name="evaluate"), "suite")
        elif group != "scale":
            check_keys(composed(f"{group}={choice}", *folder))


def test_values_that_yaml_reads_as_numbers_and_whole_numbers_for_others_pass() -> None:
    check_keys(
        composed("launcher=slurm", "launcher.slurm_account=123", "tracking.group=7", "name=2024", "optimizer.lr=1")
    )
    check_keys(composed("augmentation.fill=1", "augmentation.scale=[1,1]", "dataset.mean=[0]", "tracking.tags=[1,a]"))


@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_a_finished_run_survives_a_wrong_force(
    tmp_path: Path, mode: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"results_dir={tmp_path}", "trainer.epochs=1", "dataset.subset=20", "dataset.test_subset=10"]
    cfg = composed(*words)
    train(cfg)
    before = {path: path.stat().st_mtime_ns for path in run_folder(cfg).rglob("*")}
    with pytest.raises(ReldropError, match="force='no' must be true or false"):
        train(composed(*words, "force=no"))
    monkeypatch.setattr(sys, "argv", ["train", *mode, *words, "force=no"])
    with pytest.raises(SystemExit) as stop:
        command()
    assert "force='no' must be true or false" in str(stop.value)
    assert stop.value.code != 0
    assert {path: path.stat().st_mtime_ns for path in run_folder(cfg).rglob("*")} == before


TRAINER = dict.fromkeys(schema(TrainerConfig)) | {"epochs": 1.5}
LIBRARY: list[tuple[Callable[[], Any], str]] = [
    (lambda: augmentation.RelDropBlock(k=1.5), "k=1.5 must be a whole number"),
    (lambda: augmentation.RelDropBlock(k=0), "k=0 must be at least 1"),
    (lambda: augmentation.RelDropPatch(cell=2.5), "cell=2.5 must be a whole number"),
    (lambda: augmentation.RelDropPixel(alpha=float("nan")), "alpha=nan must be a finite number"),
    (lambda: augmentation.RandomErasing(scale=(0.4, 0.1)), "scale=[0.4, 0.1] must be two shares"),
    (lambda: augmentation.RandomPointDropout(fill="zero"), "fill='zero' must be 'mean', 'noise' or 'first'"),
    (lambda: augmentation.RelDrop(nn.Identity(), "blocks"), "mode='blocks' must be 'block'"),
    (lambda: augmentation.Fill("gray"), "kind='gray' must be"),
    (lambda: attribution.GradientLRP(epsilon=-1), "epsilon=-1 must be at least 0"),
    (lambda: attribution.ZennitLRP(canonizer="vgg"), "canonizer='vgg' must be 'timm'"),
    (lambda: attribution.CenterPrior(0), "width=0 must be above 0"),
    (lambda: timm_model("resnet_tiny", num_classes=0), "num_classes=0 must be at least 1"),
    (lambda: timm_model("vit_micro", num_classes=2, patch=0), "patch=0 must be at least 1"),
    (lambda: point_network("pointnet3", num_classes=2), "name='pointnet3' must be 'pointnet'"),
    (lambda: data.digits(mean=[0.3], std=[0.3], flip="no"), "flip='no' must be true or false"),
    (lambda: data.shapes(points=1), "points=1 must be at least 2"),
    (lambda: PointTransform(shift=-1), "shift=-1 must be at least 0"),
    (lambda: schedules.cosine(None, epochs=1, steps_per_epoch=1, eta_min=-1), "eta_min=-1 must be at least 0"),
    (lambda: Parallel(jobs=0), "jobs=0 must be at least 1"),
    (lambda: Slurm(nodes=1.5), "nodes=1.5 must be a whole number"),
    (lambda: Robustness(steps=True), "steps=true must be a whole number"),
    (lambda: ZeroShot("a", "r", "o", "val"), "val='val' must be a list"),
    (lambda: TrainerConfig(**TRAINER), "epochs=1.5 must be a whole number"),
    (lambda: TrackingConfig("on", "p", None, None, (), None), "mode='on' must be 'disabled'"),
]


@pytest.mark.parametrize(("call", "message"), LIBRARY, ids=[each[1] for each in LIBRARY])
def test_constructors_raise_value_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


# ---- the checker itself -------------------------------------------------------------------------------------------------


def part(
    known: Count, unknown: "Unknown" = None, weights: Tensor | float = 0.0, free=None, *rest: int, **more: int
) -> None:
    """Has annotations that cannot be resolved, that are none, and such of tensors."""


def test_annotations_that_cannot_be_used_take_anything() -> None:
    assert set(schema(part)) == {"known", "unknown", "weights", "free"}
    check_settings({"known": 1, "unknown": "x", "free": [1], "weights": 2, "other": 3}, part, "group")
    check_settings({"unknown": {"_target_": "torch.nn.ReLU"}, "weights": {"_target_": "torch.zeros"}}, part)
    with pytest.raises(ReldropError, match=r"^group\.weights=inf must be a finite number$"):
        check_settings({"weights": float("inf")}, part, "group")
    wrapped = checked(part)
    wrapped(1, "x", torch.zeros(2), None, 1, 2, more="no")
    with pytest.raises(ReldropError, match="known=0 must be at least 1"):
        wrapped(0)


def test_checked_leaves_classes_and_their_subclasses_as_they_are() -> None:
    @checked
    class Base:
        def __init__(self, share: Fraction = 0.5) -> None:
            self.share = share

    class Own(Base):
        def __init__(self, more: float) -> None:
            super().__init__(2 * more)

    assert Base(1).share == 1
    assert Own(0.25).share == 0.5
    with pytest.raises(ReldropError, match=r"share=2.0 must be at most 1"):
        Own(1.0)


def test_the_top_level_names_all_groups() -> None:
    assert {"dataset", "trainer", "tracking", "launcher", "scale"} < set(schema(RunSettings))
    assert report() == 0

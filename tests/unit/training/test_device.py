"""What a GPU would see of a training step: no tensors of two devices, nothing that the host waits for, few launches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.config import build
from reldrop.data.base import Batch
from reldrop.training.config import TrainerConfig
from reldrop.training.hooks import Hook
from reldrop.training.run import Report, build_trainer
from reldrop.training.trainer import Trainer
from reldrop.utils.signals import Signals
from tests.helpers.pretended_device import Log, PretendedFabric, pretended_device
from tests.helpers.runs import config as composed

STEPS, COUNTED = 4, 2  # those before set up the optimizer and the plan of the attribution
SMALL = ["dataset.subset=20", "dataset.test_subset=20", "trainer.batch_size=4", "trainer.eval_batch_size=5"]
IMAGES, CLOUDS = SMALL, [*SMALL, "dataset=shapes", "dataset.points=32", "optimizer=adam"]
# A network, an augmentation, an attribution, a precision.
SOME = [
    "resnet_tiny reldrop_block gradient bf16-mixed",
    "resnet_tiny reldrop_fast fast 32-true",
    "vit_micro reldrop_pixel gradient 32-true",
    "pointnet2_ssg reldrop_point gradient 32-true",
    "pointnet reldrop_point gradient bf16-mixed",
]
METHODS = {
    "resnet_tiny vit_micro": "none random_erasing reldrop_block reldrop_block_release reldrop_patch reldrop_pixel",
    "pointnet": "none random_point_dropout reldrop_point random_ball reldrop_ball",
}
ATTRIBUTIONS = "zennit release recycled input_gradient random center"
ALL = [
    f"{backbone} {augmentation} gradient {precision}"
    for backbones, augmentations in METHODS.items()
    for backbone in backbones.split()
    for augmentation in augmentations.split()
    for precision in ("32-true", "bf16-mixed")
] + [
    f"{backbone} {augmentation} {attribution} 32-true"
    for backbone, augmentation in (("resnet_tiny", "reldrop_block"), ("pointnet", "reldrop_point"))
    for attribution in ATTRIBUTIONS.split()
    if (backbone, attribution) != ("pointnet", "recycled")  # keeps maps of images only
]


def trained(
    folder: Path, words: list[str], wrap: Callable[[Trainer, Log], Any] = lambda *_: None, hooks: Sequence[Hook] = ()
) -> Log:
    """Train and evaluate on the device, and return the log of the counted steps and of the evaluation."""
    cfg = composed(folder, "machine.progress=false", f"trainer.max_steps={STEPS}", *words)
    with pretended_device() as log:
        config: TrainerConfig = build(cfg, "trainer")
        data = build(cfg, "dataset")
        data.to(torch.device("cuda"))
        fabric = PretendedFabric(config.precision)
        trainer = build_trainer(cfg, config, fabric, data, NoRun(), Signals(), [Phases(log), *hooks])
        wrap(trainer, log)
        trainer.train_epoch()
        log.begin("evaluation")
        trainer.evaluate()
    return log


class NoRun:
    """A run folder that keeps nothing."""

    path = Path("nowhere")

    def log_step(self, record: dict[str, Any]) -> None:
        """Do nothing."""


class Phases(Hook):
    """Counts the last steps in a phase of their own."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if trainer.step == STEPS - COUNTED:
            self.log.begin("step")


def words_of(choice: str) -> list[str]:
    backbone, augmentation, attribution, precision = choice.split()
    common = CLOUDS if backbone.startswith("point") else IMAGES
    parts = [f"backbone={backbone}", f"augmentation={augmentation}", f"attribution={attribution}"]
    return [*common, *parts, f"trainer.precision={precision}"]


@pytest.mark.parametrize(
    "choice", [*SOME, *(pytest.param(choice, marks=pytest.mark.slow) for choice in ALL if choice not in SOME)]
)
def test_nothing_waits_and_nothing_mixes(tmp_path: Path, choice: str) -> None:
    log = trained(tmp_path, words_of(choice), hooks=[Report(NoRun(), epochs=1, unit="image", every_steps=1)])
    assert not log.waits["step"]
    # Of an evaluation, a few figures of each split at its end, whatever its number of batches.
    assert not [wait for wait, count in log.waits["evaluation"].items() if count > 2]


@pytest.mark.parametrize(
    ("choice", "step", "attribution"),
    [
        ("resnet18 none gradient 32-true", 190, 0),
        ("resnet18 reldrop_block gradient 32-true", 222, 190),
        ("pointnet2_ssg reldrop_point gradient 32-true", 290, 140),
        pytest.param("pointnet2_msg reldrop_point gradient 32-true", 560, 270, marks=pytest.mark.slow),
    ],
)
def test_launches(tmp_path: Path, choice: str, step: int, attribution: int) -> None:
    words = [*words_of(choice), "augmentation.probability=1"] if "block" in choice else words_of(choice)
    log = trained(tmp_path, words, count_attribution)
    assert log.launches["attribution"] <= COUNTED * attribution
    assert log.launches["step"] <= COUNTED * step  # the rest: occlusion, forward and backward pass, optimizer


def count_attribution(trainer: Trainer, log: Log) -> None:
    """Let launches of the attribution count in a phase of their own, in the counted steps."""
    attribution = trainer.attribution

    def call(*arguments: Any, **options: Any) -> torch.Tensor:
        outer, log.phase = log.phase, "attribution" if log.phase == "step" else log.phase
        try:
            return type(attribution).__call__(attribution, *arguments, **options)
        finally:
            log.phase = outer

    call.conserves = attribution.conserves
    trainer.attribution = call

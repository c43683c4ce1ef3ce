"""The gain of guidance, as training measures it."""

import logging
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reldrop.augmentation import RelDropBlock
from reldrop.evaluation.guidance_gain import GuidanceGain
from reldrop.runs.reader import RunFolder
from reldrop.train import train
from tests.helpers.runs import QUICK, config

KEY = "attribution/guidance_gain"


def history(folder: Path, *words: str) -> list[dict]:
    train(config(folder, *QUICK, *words))
    (run,) = (folder / "results").glob("runs/*/*/seed*")
    return RunFolder(run).history()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("reldrop_pixel", "reldrop_fast")]


@pytest.mark.parametrize("augmentation", ["reldrop_block", *SLOW])
def test_it_is_measured_and_changes_nothing_else(tmp_path: Path, augmentation: str) -> None:
    words = [f"augmentation={augmentation}", "trainer.epochs=2"]
    with_it = history(tmp_path / "with", *words)
    without = history(tmp_path / "without", *words, "monitor.guidance_samples=null")
    names = [next((tmp_path / name / "results" / "runs").glob("*/*/seed*")).name for name in ("with", "without")]
    assert names[0] == names[1]  # no part of the identity
    for a, b in zip(with_it, without, strict=True):
        assert KEY in a
        assert KEY not in b
        assert {key: a[key] for key in b if "speed" not in key and "time" not in key} == {
            key: value for key, value in b.items() if "speed" not in key and "time" not in key
        }
    weights = [
        torch.load(next((tmp_path / name / "results" / "runs").glob("*/*/seed*")) / "last.pt", weights_only=False)[
            "model"
        ]
        for name in ("with", "without")
    ]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_arms_without_relevance_have_none(tmp_path: Path) -> None:
    assert all(KEY not in record for record in history(tmp_path, "augmentation=random_erasing", "trainer.epochs=1"))


@pytest.mark.slow
def test_on_clouds(tmp_path: Path) -> None:
    words = ["dataset=shapes", "dataset.points=64", "backbone=pointnet", "optimizer=adam", "augmentation=reldrop_ball"]
    assert KEY in history(tmp_path, *words, "trainer.epochs=1")[0]


def trainer_of(augmentation: RelDropBlock) -> SimpleNamespace:
    data = SimpleNamespace(eval_batches=lambda *_, **__: [(None, None)])
    fabric = SimpleNamespace(autocast=nullcontext)
    return SimpleNamespace(augmentation=augmentation, cache=None, data=data, fabric=fabric)


@pytest.mark.parametrize(("drops", "said"), [([0.2, 0.2], 1), ([0.2, 0.1], 0), ([0.1, -0.1], 0)])
def test_a_gain_that_stays_low_is_warned_of_once(
    drops: list[float], said: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuidanceGain, "_drops", lambda *_: torch.tensor(drops))
    hook, record = GuidanceGain(64), {}
    with caplog.at_level(logging.WARNING, "reldrop"):
        for epoch in range(9):
            hook.measure(trainer_of(RelDropBlock()), record)
            assert len(caplog.messages) == (said if epoch >= 2 else 0)
    assert all(message.endswith("try augmentation.place_by=block") for message in caplog.messages)
    assert record[KEY] == (None if drops[1] < 0 else pytest.approx(drops[0] / drops[1]))

"""In training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reldrop.attribution.recycled import RelevanceCache
from reldrop.data.base import Batch
from reldrop.runs.identity import run_folder
from reldrop.train import train
from tests.helpers.hooks import FailBeforeStep
from tests.helpers.runs import QUICK, assert_same_run, config, fails

RUN = [*QUICK, "attribution=recycled", "augmentation=reldrop_block", "augmentation.probability=1.0"]

pytestmark = pytest.mark.slow


def test_images_are_occluded_where_their_last_visit_was_relevant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, float]] = []
    recall = RelevanceCache.get

    def watch(self: RelevanceCache, batch: Batch, rows: Tensor, generator: torch.Generator) -> Tensor:
        seen.append((bool(self.known[batch.items[rows]].all()), float(self.known.float().mean())))
        return recall(self, batch, rows, generator)

    monkeypatch.setattr(RelevanceCache, "get", watch)
    cfg = config(tmp_path, *RUN)
    summary = train(cfg)
    steps = summary["steps"] // cfg.trainer.epochs
    assert [known for known, _ in seen] == [False] * steps + [True] * (len(seen) - steps)
    assert len(seen) == summary["steps"]


def test_an_interrupted_run_goes_on_with_what_it_remembers(tmp_path: Path) -> None:
    whole = config(tmp_path / "whole", *RUN)
    broken = config(tmp_path / "broken", *RUN, "monitor.checkpoint_every_steps=3")
    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(broken, hooks=[FailBeforeStep(8, KeyboardInterrupt)])
    train(broken)
    assert_same_run(run_folder(broken), run_folder(whole))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.compile=true"], "attribution=recycled does not go with trainer.compile; take attribution=gradient"),
        (["trainer.eval_after_attribution=true"], "does not go with trainer.eval_after_attribution"),
        (["+attribution.epsilon=0.1"], "attribution.epsilon is not a setting"),
    ],
)
def test_what_it_does_not_go_with(tmp_path: Path, overrides: list[str], message: str) -> None:
    assert message in fails(tmp_path, *RUN, *overrides)


def test_it_is_for_images_in_memory(tmp_path: Path) -> None:
    points = ["+experiment=shapes_pointnet", "attribution=recycled", "dataset.subset=20", "dataset.test_subset=10"]
    assert "keeps relevance for whole images in memory" in fails(tmp_path, *points)

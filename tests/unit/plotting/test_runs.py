"""Figures of runs: the same look for an arm everywhere, means, and the default with a ring."""

import numpy as np
import pytest
from hydra import initialize_config_dir

from reldrop.config import CONFIG_PATH
from reldrop.data.class_names import class_titles
from reldrop.figures import _defaults
from reldrop.plotting.runs import ablation_figure, training_figure
from reldrop.reporting.arms import ARMS, looks
from reldrop.reporting.cells import Score
from reldrop.reporting.records import Record
from reldrop.utils.errors import ReldropError

TOP1 = Score("test/top1")


def record(augmentation: str, value: float, seed: int, **settings: object) -> Record:
    names = {"name": "ablation", "dataset.name": "digits", "backbone.name": "resnet_tiny"}
    own = {f"augmentation.{key}": each for key, each in {"name": augmentation, **settings}.items()}
    return Record("", seed, names | own, {"test/top1": value})


RECORDS = [
    *(record("reldrop_block", 0.1 * k, seed, k=k) for k in (1, 5) for seed in (0, 1)),
    record("none", 0.25, 0),
    record("none", 0.35, 1),
]


def test_an_arm_looks_the_same_beside_any_others() -> None:
    own = looks(["my_method", "reldrop_block", "reldrop_block, k 5"])
    assert own["reldrop_block"] == ARMS["reldrop_block"]
    assert len({look.color for look in own.values()}) == 3
    assert own["my_method"].title == "my method"
    assert own["my_method"].color not in {look.color for name, look in ARMS.items() if name in own}


def test_an_ablation_marks_the_default() -> None:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):  # as under the command
        defaults = _defaults(RECORDS, "augmentation.k")
    assert _defaults(RECORDS, "augmentation.k") == defaults == {"reldrop_block": "1"}
    (axis,) = ablation_figure(RECORDS, TOP1, None, defaults).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["none"].get_ydata() == pytest.approx([30, 30])  # across
    assert axis.get_xlabel() == "augmentation.k"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "5"]
    (ring,) = (line for line in axis.lines if line.get_label() == "default")
    assert np.ravel(ring.get_xydata()) == pytest.approx([0, 10])
    with pytest.raises(ReldropError, match=r"x=augmentation\.p has one value"):
        ablation_figure(RECORDS, TOP1, "augmentation.p")


def test_curves_of_training_say_how_many_runs() -> None:
    runs = [[{"epoch": 1, "test/top1": 0.1}, {"epoch": 2, "test/top1": value}] for value in (0.3, 0.5)]
    figure = training_figure({"none": runs}, [TOP1])
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([10, 40])
    assert "n = 2 runs" in figure.legends[0].get_title().get_text()
    with pytest.raises(ReldropError, match="metric=test/top5 is in no record"):
        training_figure({"none": runs}, [Score("test/top5")])


def test_classes_in_words() -> None:
    assert class_titles(["n01882714", "mine"]) == ["koala", "mine"]
    assert class_titles([b"caf\xe9".decode("utf-8", "surrogateescape"), "a $b$"]) == ["caf\ufffd", "a $b$"]

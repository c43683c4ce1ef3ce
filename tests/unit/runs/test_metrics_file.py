"""Metrics file."""

import json

import pytest

from reldrop.runs.run import Run
from reldrop.utils.errors import ReldropError

# Metrics log


def test_log_is_valid_json_without_non_finite_numbers(run):
    run.log({"epoch": 1, "loss": float("nan"), "lr": [0.1, float("inf")], "test": {"accuracy": float("-inf")}})
    expected = {"epoch": 1, "loss": None, "lr": [0.1, None], "test": {"accuracy": None}}
    assert run.history() == [expected]
    assert json.loads((run.path / "metrics.jsonl").read_text()) == expected


def test_torn_last_line_does_not_count_and_nothing_is_glued_to_it(cfg):
    with Run(cfg) as run:
        assert run.history() == []
        run.log({"epoch": 1})
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 2, "lo')
        assert run.history() == [{"epoch": 1}]
    with Run(cfg) as run:
        run.log({"epoch": 2})
        assert run.history() == [{"epoch": 1}, {"epoch": 2}]


def test_rewind(run):
    run.rewind(0, 0)
    for epoch in (1, 2, 3):
        run.log_step({"epoch": epoch - 1, "step": 2 * epoch})
        run.log({"epoch": epoch})
    run.rewind(2, 5)  # amid the third epoch
    assert [record["epoch"] for record in run.history()] == [1, 2]
    assert [record["step"] for record in run.steps()] == [2, 4]


@pytest.mark.parametrize(("left", "lacking"), [([], 1), ([1, 3], 2), ([1], 2), ([2, 3], 1)])
def test_a_log_that_lacks_epochs_of_the_checkpoint_is_refused(run, left, lacking):
    for epoch in left:
        run.log({"epoch": epoch})
    with pytest.raises(
        ReldropError, match=rf"metrics\.jsonl has no record of epoch {lacking}, but .* epoch 3.*force=true"
    ):
        run.rewind(3, 0)
    assert [record["epoch"] for record in run.history()] == left


def test_damaged_line(run):
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\n\0\0\n{"epoch": 3}\n')
    with pytest.raises(ReldropError, match=r"metrics\.jsonl is damaged"):
        run.history()

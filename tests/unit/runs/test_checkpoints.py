"""Checkpoints."""

import os

import pytest
import torch

from reldrop.runs.run import Run
from reldrop.utils.errors import ReldropError

# Checkpoints


def test_checkpoint_round_trip(run):
    assert run.load("last.pt") is None
    run.save({"epoch": 2, "weight": torch.arange(3.0)}, "last.pt")
    state = run.load("last.pt")
    assert state["epoch"] == 2
    assert torch.equal(state["weight"], torch.arange(3.0))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 100])
def test_damaged_checkpoint(run, damage):
    run.save({"weight": torch.arange(1000.0)}, "last.pt")
    path = run.path / "last.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReldropError, match=r"last\.pt is damaged \(.+\).*force=true"):
        run.load("last.pt")


def test_checkpoint_survives_a_failure_of_its_successor(run, monkeypatch):
    run.save({"epoch": 1}, "last.pt")

    def fail(*args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            run.save({"epoch": 2}, "last.pt")
    assert run.load("last.pt") == {"epoch": 1}
    assert not list(run.path.glob(".*.tmp"))


def test_leftover_of_a_kill_is_removed_at_the_next_start(cfg):
    with Run(cfg) as run:
        run.save({"epoch": 1}, "last.pt")
        (run.path / ".last.pt.tmp").write_bytes(b"half")
    with Run(cfg) as run:
        assert run.load("last.pt") == {"epoch": 1}
        assert not (run.path / ".last.pt.tmp").exists()

"""Checkpoints."""

import errno
import os
import resource
import shutil

import pytest
import torch

from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder
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


def test_one_flipped_bit_is_noticed_wherever_it_is(run):
    run.save({"epoch": 1, "weight": torch.arange(100.0)}, "last.pt")
    path = run.path / "last.pt"
    whole = path.read_bytes()
    mark = len(whole) - 39  # without its mark, a file has no checksum, as those of earlier versions
    for place in {*range(0, len(whole), 61), mark - 1, len(whole) - 1} - {*range(mark, mark + 7)}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ReldropError, match=r"last\.pt is damaged \(its checksum is wrong\); delete it to go on"):
            run.load("last.pt")


def test_files_of_earlier_versions_and_what_others_read(run):
    torch.save({"epoch": 1}, run.path / "last.pt")
    assert run.load("last.pt") == {"epoch": 1}
    run.save({"epoch": 2}, "last.pt")
    assert torch.load(run.path / "last.pt", weights_only=True) == {"epoch": 2}


def save_on_a_full_disk(cfg):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Run(cfg) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            run.save({"weight": torch.zeros(10_000)}, "last.pt")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_is_the_last_line_of_the_failure(cfg):
    with pytest.raises(ReldropError, match=r"cannot write last\.pt to run folder .* \(File too large\)"):
        save_on_a_full_disk(cfg)
    run = RunFolder(run_folder(cfg))
    assert run.failure.startswith("cannot write last.pt to run folder")
    assert not list(run.path.glob(".*.tmp"))


def test_a_folder_that_is_removed_is_named(cfg):
    with Run(cfg) as run:
        shutil.rmtree(run.path)
        with pytest.raises(ReldropError, match=r"cannot write metrics\.jsonl to run folder .* \(No such file"):
            run.log({"epoch": 1})


def test_checkpoint_survives_a_failure_of_its_successor(run, monkeypatch):
    run.save({"epoch": 1}, "last.pt")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(
            ReldropError, match=r"cannot write last\.pt to run folder .* \(No space left on device\); the same"
        ):
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

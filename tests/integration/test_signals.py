"""Signals."""

import re
import signal
import sys
from pathlib import Path

import pytest

from reldrop.runs.identity import run_folder
from reldrop.train import train
from reldrop.utils.signals import Signals
from tests.helpers.hooks import TerminateInEvaluation
from tests.helpers.processes import TORCHRUN
from tests.helpers.runs import QUICK, assert_same_run, config, weights
from tests.helpers.sweeps import STEPS, start

pytestmark = pytest.mark.slow


def test_signals_wait_and_are_handed_on() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: calls.append(number))
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGUSR2)
            assert signals.received() == [signal.SIGUSR2]
            assert calls == []
            signals.hand_on(signal.SIGUSR2)
            assert calls == [signal.SIGUSR2]
            assert signals.received() == []
            with pytest.raises(SystemExit) as stop:
                signals.hand_on(signal.SIGTERM)  # which nobody handles
            assert stop.value.code == 143
            signal.raise_signal(signal.SIGUSR2)
        assert calls == [signal.SIGUSR2] * 2  # at the end of the block
        signal.raise_signal(signal.SIGUSR2)
        assert calls == [signal.SIGUSR2] * 3  # as before
        with pytest.raises(SystemExit):
            _fail_after_a_signal()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, before)


def _fail_after_a_signal() -> None:
    with Signals():
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a worker is gone")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_terminated_run_goes_on_where_it_was(tmp_path: Path, processes: int) -> None:
    launch = TORCHRUN if processes > 1 else [sys.executable]
    options = [*STEPS, "backbone.drop_path=0.3"]
    process = start(tmp_path / "broken", *options, launch=launch, SECONDS_PER_STEP="0.5")
    for line in process.stdout:
        if line.endswith("step 3\n"):
            break
    process.terminate()
    text, _ = process.communicate(timeout=240)
    assert process.returncode == (143 if processes == 1 else 1)
    assert "Traceback" not in text or processes > 1  # torchrun has one of its own
    broken = run_folder(config(tmp_path / "broken", *options))
    assert not (broken / "FAILED").exists()
    batches = re.search(r"SIGTERM: the checkpoint is after 0 epochs and (\d+) batches", text)[1]
    assert int(batches) >= 3
    text, _ = start(tmp_path / "broken", *options, launch=launch).communicate(timeout=120)
    assert f"resuming after 0 epochs and {batches} batches" in text
    if processes == 1:
        whole = config(tmp_path / "whole", *options)
        train(whole)
        assert_same_run(broken, run_folder(whole))
    else:
        assert (broken / "summary.json").exists()


def test_a_signal_during_the_evaluation_keeps_the_epoch(tmp_path: Path) -> None:
    whole, broken = config(tmp_path / "whole", *QUICK), config(tmp_path / "broken", *QUICK)
    train(whole)
    with pytest.raises(SystemExit):
        train(broken, hooks=[TerminateInEvaluation()])
    state = weights(run_folder(broken))
    assert state.keys() == weights(run_folder(whole)).keys()
    assert not (run_folder(broken) / "FAILED").exists()
    train(broken)
    assert_same_run(run_folder(broken), run_folder(whole))

"""The prepared file."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reldrop.data.points import cache, preprocessing
from reldrop.utils.errors import ReldropError
from tests.helpers.clouds import cloud, modelnet, write_text


def cache_files(base: Path) -> list[str]:
    return sorted(path.name for path in (base.parent / "cache").iterdir() if not path.name.endswith(".lock"))


def refuse(*_: Any) -> None:
    raise AssertionError("files are read again")


def test_later_uses_map_the_file(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = modelnet(mini)
    monkeypatch.setattr(preprocessing, "read_cloud", refuse)
    second = modelnet(mini)
    assert torch.equal(first.train.points, second.train.points)
    assert second.train.points.is_contiguous()
    (name,) = cache_files(mini)
    if Path("/proc/self/maps").exists():
        ranges = [
            line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if name in line
        ]
        address = second.train.points.data_ptr()
        assert any(int(low, 16) <= address < int(high, 16) for low, high in ranges)
    (mini.parent / "cache").rename(mini.parent / "moved")
    assert len(modelnet(mini, cache_dir=str(mini.parent / "moved")).test) == 6


def test_changed_files_are_prepared_again_and_the_old_result_is_removed(mini: Path) -> None:
    first = modelnet(mini)
    modelnet(mini, points=8)
    old = cache_files(mini)
    changed = mini / "a" / "a_0001.txt"
    status = changed.stat()
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert torch.equal(modelnet(mini).train.points, first.train.points)
    assert len(cache_files(mini)) == 2
    assert len({*cache_files(mini)} & {*old}) == 1  # the one of 8 points
    write_text(changed, cloud(99))
    assert not torch.equal(modelnet(mini).train.points, first.train.points)
    lists = mini / "mini_train.txt"
    lists.write_text(lists.read_text().replace("a_0002\n", ""))
    assert len(modelnet(mini).train) == 11
    names = mini / "mini_shape_names.txt"
    names.write_text("c\nbig_b\na\n")
    assert modelnet(mini).train.labels.tolist() == [2] * 3 + [1] * 4 + [0] * 4


@pytest.mark.parametrize("damage", ["half", "empty", "header", "foreign"])
def test_a_damaged_file_is_reported_and_made_again(mini: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = modelnet(mini).train.points.clone()
    (name,) = cache_files(mini)
    path = mini.parent / "cache" / name
    raw = path.read_bytes()
    other = cache.save({"train_points": torch.zeros(1)}, {"few": "0"})
    path.unlink()  # a map of the old one stays whole
    path.write_bytes({"half": raw[: len(raw) // 2], "empty": b"", "header": b"x" + raw[1:], "foreign": other}[damage])
    assert torch.equal(modelnet(mini).train.points, expected)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == raw


def test_of_two_at_once_one_prepares_and_the_other_waits(
    mini: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on, results, calls = threading.Event(), threading.Event(), [], []

    def slowly(*arguments: Any) -> Any:
        calls.append(arguments)
        begun.set()
        assert go_on.wait(20)
        return preprocessing.sample_all(*arguments)

    monkeypatch.setattr(cache, "sample_all", slowly)
    caplog.set_level(logging.INFO, "reldrop")
    threads = [threading.Thread(target=lambda: results.append(modelnet(mini))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    while "another process is preparing mini; waiting for it" not in caplog.text:
        threads[1].join(0.01)
        assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(calls) == 1
    assert torch.equal(results[0].train.points, results[1].train.points)
    assert caplog.text.count("waiting for it") == 1


def script(base: Path, before: str = "", **settings: Any) -> str:
    arguments = {"folders": [base.name], "prefix": "mini", "name": "mini", "points": 16}
    machine = {"data_dir": str(base.parent), "workers": 0, **settings}
    return "\n".join(
        [
            "import time",
            "from reldrop import data",
            "from reldrop.data.points import cache, preprocessing",
            "from reldrop.utils.machine import Machine",
            before,
            f"clouds = data.modelnet(**{arguments!r}, machine=Machine(**{machine!r}))",
            "print(len(clouds.train), float(clouds.train.points.sum()))",
        ]
    )


@pytest.mark.slow
def test_two_processes_at_once_give_the_same(mini: Path) -> None:
    command = [sys.executable, "-c", script(mini)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert outputs[0] == outputs[1] == f"12 {float(modelnet(mini).train.points.sum())}\n"


@pytest.mark.slow
def test_a_kill_while_preparing_leaves_nothing_that_counts(mini: Path) -> None:
    stall = "cache.save = lambda *a: print('saving', flush=True) or time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script(mini, stall)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (leftover,) = cache_files(mini)
    assert leftover.endswith(".tmp")
    stale = mini.parent / "cache" / f".mini-16-{'0' * 12}.safetensors.tmp"
    stale.write_bytes(b"of an earlier state")
    assert len(modelnet(mini).train) == 12
    (name,) = cache_files(mini)
    assert name.endswith(".safetensors")


PARALLEL = "preprocessing.PARALLEL_FROM, preprocessing.BLOCK = 1, 4"


@pytest.mark.slow
def test_a_script_without_a_guard_starts_processes(mini: Path, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(script(mini, PARALLEL, workers=2))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"12 {float(modelnet(mini).train.points.sum())}\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_reading_processes_end_with_their_parent(mini: Path, number: int) -> None:
    slowly = "preprocessing._sample_files = lambda *_: print('sampling', flush=True) or time.sleep(3)"
    command = [sys.executable, "-c", script(mini, f"{PARALLEL}\n{slowly}", workers=2)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for _ in range(2):
        assert process.stdout.readline() == b"sampling\n"
    members = group(process.pid)
    assert len(members) >= 3  # this one and two that read
    if number == signal.SIGINT:  # a terminal sends it to all
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    # Where an interrupt reaches the pool of processes first, Python ends with 1.
    assert process.wait(120) in ((-number, 1) if number == signal.SIGINT else (-number,))
    deadline = time.monotonic() + 120
    while group(process.pid) & members and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not group(process.pid) & members


def group(number: int) -> set[int]:
    """Return the processes of a group."""
    members = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) == number and "Z" not in (path / "stat").read_text().rpartition(")")[2][:3]:
                members.add(int(path.name))
    return members


def test_a_folder_that_cannot_be_written_is_explained(mini: Path) -> None:
    (mini.parent / "file").write_text("no folder")
    with pytest.raises(
        ReldropError, match=r"cannot keep the prepared clouds of mini in .*file/cache \(Not a directory\); set"
    ):
        modelnet(mini, cache_dir=str(mini.parent / "file" / "cache"))


def test_names_that_are_no_file_names(mini: Path) -> None:
    modelnet(mini, name="my set/1")
    assert cache_files(mini)[0].startswith("my_set_1-16-")

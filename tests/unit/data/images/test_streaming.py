"""Streaming."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

from reldrop.utils.errors import ReldropError
from tests.helpers.images import assert_same_batches, folder_data, make_folders


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_equals_memory(tmp_path: Path, workers: int) -> None:
    base = make_folders(tmp_path / "some")
    settings = {"crop_padding": 1, "flip": True, "validation": 0.2}
    kept, streamed = folder_data(base, **settings), folder_data(base, memory_gb=0, workers=workers, **settings)
    assert isinstance(kept.train.images, Tensor)
    assert not isinstance(streamed.train.images, Tensor)
    for epoch, start in ((0, 0), (1, 0), (1, 2), (1, 3)):
        batches = [list(each.train_batches(epoch, batch_size=4, seed=0, start=start)) for each in (kept, streamed)]
        assert_same_batches(*batches)
    for split in ("train", "validation", "test"):
        assert_same_batches(*(list(each.eval_batches(split, batch_size=4, limit=5)) for each in (kept, streamed)))


def test_streamed_training_images_can_be_evaluated_amid_an_epoch_that_is_then_given_up(tmp_path: Path) -> None:
    images = folder_data(make_folders(tmp_path / "some"), memory_gb=0, workers=1)
    expected = list(images.train_batches(0, batch_size=4, seed=0))
    training = images.train_batches(0, batch_size=4, seed=0)
    begun = [next(training), next(training)]
    assert len(list(images.eval_batches("train", batch_size=4))) == 4
    assert_same_batches(expected[:3], [*begun, next(training)])
    training.close()
    assert_same_batches(expected, list(images.train_batches(0, batch_size=4, seed=0)))


@pytest.mark.parametrize("workers", [0, 1])
def test_streaming_names_a_damaged_image_without_a_workers_traceback(tmp_path: Path, workers: int) -> None:
    base = make_folders(tmp_path / "some")
    damaged = base / "train" / "class1" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    images = folder_data(base, memory_gb=0, workers=workers)
    with pytest.raises(ReldropError, match=f"^cannot decode image {damaged}: .*; replace or remove it$"):
        list(images.train_batches(0, batch_size=4, seed=0))


def test_a_killed_worker_is_one_sentence(tmp_path: Path) -> None:
    images = folder_data(make_folders(tmp_path / "some"), memory_gb=0, workers=1)
    batches = images.train_batches(0, batch_size=2, seed=0)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(ReldropError, match=r"processes that decode images have failed \(.*\); .*machine.workers"):
        list(batches)


SCRIPT = """
from pathlib import Path
from tests.helpers.images import folder_data
images = folder_data(Path({base!r}), memory_gb=0, workers=2, size=96)
list(images.train_batches(0, batch_size=8, seed=0))
"""


def test_shared_memory_that_is_full_is_one_sentence(tmp_path: Path) -> None:
    base = make_folders(tmp_path / "some", size=96)
    inner = 'mount -t tmpfs -o size=100k tmpfs /dev/shm && touch mounted && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", inner, "sh", sys.executable, "-c", SCRIPT.format(base=str(base))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if not (tmp_path / "mounted").exists():
        pytest.skip("file systems cannot be mounted here")
    assert done.returncode == 1
    assert "ReldropError: the processes that decode images have failed (" in done.stderr
    assert "give /dev/shm more room" in done.stderr

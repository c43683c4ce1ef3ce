"""Streaming."""

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

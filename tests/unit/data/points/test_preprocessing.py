"""Sampling."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reldrop.data.points import preprocessing
from reldrop.data.points.preprocessing import in_unit_ball, sample
from reldrop.utils.errors import ReldropError
from tests.helpers.clouds import cloud, modelnet, write_text


def farthest_loop(xyz: np.ndarray, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        distances = [min(float(((point - xyz[other]) ** 2).sum()) for other in chosen) for point in xyz]
        chosen.append(int(np.argmax(distances)))
    return chosen


def test_sampling_equals_a_loop_for_clouds_of_any_size() -> None:
    clouds = [cloud(seed, size) for seed, size in enumerate((30, 50, 30, 9))]
    sampled, few = sample(clouds, 12)
    assert sampled.shape == (4, 12, 6)
    assert few == 1
    for values, result in zip(clouds, sampled, strict=True):
        chosen = farthest_loop(in_unit_ball(values)[:, :3], min(12, len(values)))
        chosen = [*chosen, *chosen][:12]
        xyz = values[chosen, :3]
        xyz = xyz - xyz.mean(0)
        assert np.allclose(result[:, :3], xyz / max(np.linalg.norm(point) for point in xyz), atol=1e-6)
        assert np.array_equal(result[:, 3:], values[chosen, 3:].astype(np.float32))


def test_clouds_far_from_the_origin_keep_their_shape() -> None:
    near = cloud(0, 50)
    far = near.copy()
    far[:, :3] = far[:, :3] * 1e-3 + [5e6, -3e6, 100]
    assert np.allclose(sample([near], 20)[0], sample([far], 20)[0], atol=1e-4)


def test_prepared_clouds_are_those_of_the_files(mini: Path) -> None:
    clouds = modelnet(mini)
    assert (clouds.classes, len(clouds.train), len(clouds.test)) == (("a", "big_b", "c"), 12, 6)
    assert clouds.source == "point files in folder mini"
    assert clouds.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    raw = np.loadtxt(mini / "big_b" / "big_b_0002.txt", delimiter=",")
    assert np.array_equal(clouds.train.points[5].numpy(), sample([raw], 16)[0][0])
    assert torch.allclose(clouds.train.points[..., :3].norm(dim=-1).amax(1), torch.ones(12))
    assert clouds.train.points[..., :3].mean(1).abs().max() < 1e-6
    plain = modelnet(mini, normals=False)
    assert (plain.channels, clouds.channels) == (3, 6)
    assert torch.equal(plain.train.points, clouds.train.points[..., :3])
    assert len(list((mini.parent / "cache").glob("mini-16-*.safetensors"))) == 2


def test_chosen_clouds(mini: Path) -> None:
    whole, some = modelnet(mini), modelnet(mini, validation=0.25, subset=6, test_subset=3)
    assert (len(some.train), len(some.validation), len(some.test)) == (6, 3, 3)
    assert some.validation.labels.tolist() == some.test.labels.tolist() == [0, 1, 2]
    known = {tuple(points.flatten().tolist()) for points in whole.train.points}
    chosen = torch.cat([some.train.points, some.validation.points])
    assert len({tuple(points.flatten().tolist()) for points in chosen} & known) == 9
    (mini / "big_b" / "big_b_0001.txt").unlink()  # of a class that is not used
    two = modelnet(mini, classes=["c", "a"])
    assert (two.classes, two.train.labels.tolist()) == (("a", "c"), [0] * 4 + [1] * 4)
    assert torch.equal(two.train.points[4:], whole.train.points[8:])


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "PARALLEL_FROM", 1)
    monkeypatch.setattr(preprocessing, "BLOCK", 4)


@pytest.mark.slow
@pytest.mark.usefixtures("in_processes")
def test_processes_give_what_one_gives_and_name_a_bad_file(mini: Path) -> None:
    expected = modelnet(mini)
    elsewhere = modelnet(mini, workers=2, cache_dir=str(mini.parent / "other"))
    for split in ("train", "test"):
        assert torch.equal(getattr(expected, split).points, getattr(elsewhere, split).points)
    bad = write_text(mini / "c" / "c_0003.txt", np.full((3, 6), np.nan))
    with pytest.raises(ReldropError, match=rf"^{bad}, row 1: .*nan.* is not finite"):
        modelnet(mini, workers=2)


def leave(*_: Any) -> None:
    os._exit(9)


@pytest.mark.slow
@pytest.mark.usefixtures("in_processes")
def test_a_process_that_ends_is_explained(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "_sample_files", leave)
    with pytest.raises(ReldropError, match=r"a process that reads clouds has ended .*; set machine.workers=0"):
        modelnet(mini, workers=2)


def test_torch_keeps_its_threads(mini: Path) -> None:
    threads = torch.get_num_threads()
    modelnet(mini)
    assert torch.get_num_threads() == threads

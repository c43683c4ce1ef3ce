"""Data sets of point clouds: files and their mistakes, sampling, the prepared file, batches, and what training does."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from reldrop import data
from reldrop.data import Perturbation, PointData, PointSplit, cloud_cache, cloud_sampling
from reldrop.data.cloud_files import SURFACE_POINTS, h5_labels, read_cloud, read_h5
from reldrop.data.cloud_sampling import in_unit_ball, sample
from reldrop.data.cloud_transforms import draw_rotations, jitter, rotate, scale_and_shift
from reldrop.data.shapes import BODIES
from reldrop.errors import ReldropError
from reldrop.seeding import generator

CONFIGS = Path(__file__).parents[1] / "conf" / "dataset"
CUBE = """8 12 0
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
3 0 2 1
3 0 3 2
3 4 5 6
3 4 6 7
3 0 1 5
3 0 5 4
3 1 2 6
3 1 6 5
3 2 3 7
3 2 7 6
3 3 0 4
3 3 4 7
"""


def cloud(seed: int, points: int = 40, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, columns)).round(4)


def write_text(path: Path, values: np.ndarray, delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, fmt="%.4f", delimiter=delimiter)
    return path


def make_lists(base: Path, prefix: str = "mini", classes: int = 3, train: int = 4, test: int = 2) -> Path:
    """Make the layout of the resampled ModelNet40, no two clouds the same, in classes a, big_b and c."""
    names = ["a", "big_b", "c"][:classes]
    base.mkdir(parents=True, exist_ok=True)
    (base / f"{prefix}_shape_names.txt").write_text("\n".join(names) + "\n")
    for split, first, count in (("train", 1, train), ("test", 101, test)):
        entries = [f"{name}_{number:04}" for name in names for number in range(first, first + count)]
        for seed, entry in enumerate(entries, first):
            write_text(base / entry.rpartition("_")[0] / f"{entry}.txt", cloud(seed))
        (base / f"{prefix}_{split}.txt").write_text("\n".join(entries) + "\n")
    return base


def modelnet(base: Path, **settings: Any) -> PointData:
    defaults = {"prefix": "mini", "name": "mini", "points": 16, "cache_dir": str(base.parent / "cache"), "workers": 0}
    return data.modelnet(root=str(base.parent), folders=["none", base.name], **{**defaults, **settings})


def point_folder(base: Path, **settings: Any) -> PointData:
    defaults = {"points": 16, "cache_dir": str(base.parent / "cache"), "workers": 0}
    return data.point_folder(root=str(base.parent), folder=base.name, **{**defaults, **settings})


def memory_data(count: int = 11, points: int = 8, **settings: Any) -> PointData:
    """`count` training clouds; x is the number of the cloud, y that of the point."""
    clouds = torch.zeros(count, points, 6)
    clouds[..., 0], clouds[..., 1] = torch.arange(count)[:, None], torch.arange(points)
    split = PointSplit(clouds, torch.arange(count) % 2)
    return PointData("values", ("even", "odd"), "memory", split, PointSplit(clouds[:4], split.labels[:4]), **settings)


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    return make_lists(tmp_path / "root" / "mini")


# ---- batches ----------------------------------------------------------------------------------------------------------


def test_every_cloud_once_an_epoch_with_all_its_points_in_orders_of_their_own() -> None:
    clouds = memory_data(12)
    epochs = [list(clouds.train_batches(epoch, batch_size=5, seed=0)) for epoch in (0, 0, 1)]
    for (inputs, targets), (same, _), (other, _) in zip(*epochs, strict=True):
        assert inputs.dtype == torch.float32
        assert torch.equal(inputs[:, 0, 0].long() % 2, targets)
        assert torch.equal(inputs, same)
        assert not torch.equal(inputs, other)
        assert torch.equal(inputs[..., 1].sort(1).values, torch.arange(8.0).expand(len(inputs), 8))
    for epoch in epochs:
        assert sorted(torch.cat([inputs[:, 0, 0] for inputs, _ in epoch]).tolist()) == list(range(12))
    firsts = torch.cat(
        [inputs[:, 0, 1] for epoch in range(40) for inputs, _ in clouds.train_batches(epoch, batch_size=5, seed=0)]
    )
    assert firsts.long().bincount(minlength=8).min() > 30  # of 60 expected


@pytest.mark.parametrize("start", [1, 2, 3])
def test_start_skips_batches_and_changes_no_other(start: int) -> None:
    clouds = memory_data(14)
    whole = list(clouds.train_batches(3, batch_size=5, seed=7))
    rest = list(clouds.train_batches(3, batch_size=5, seed=7, start=start))
    assert len(rest) == len(whole) - start
    for (inputs, targets), (others, other_targets) in zip(whole[start:], rest, strict=True):
        assert torch.equal(inputs, others)
        assert torch.equal(targets, other_targets)


def test_a_last_batch_of_one_cloud_is_dropped() -> None:
    assert [len(targets) for _, targets in memory_data(11).train_batches(0, batch_size=5, seed=0)] == [5, 5]
    assert memory_data(11).steps_per_epoch(5) == 2
    assert memory_data(12).steps_per_epoch(5) == 3


def test_evaluation_is_in_order_of_clouds_and_points() -> None:
    clouds = memory_data(20)
    batches = list(clouds.eval_batches("train", batch_size=8))
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), clouds.train.points)
    for inputs, targets, indices in clouds.eval_items("train", batch_size=8, limit=6):
        assert torch.equal(inputs, clouds.train.points[indices])
        assert torch.equal(targets, clouds.train.labels[indices])
    limited = [
        [x for inputs, _ in clouds.eval_batches("train", batch_size=4, limit=6) for x in inputs[:, 0, 0].tolist()]
    ] * 2
    assert limited[0] == limited[1] == sorted(set(limited[0]))
    assert len(limited[0]) == 6


def test_global_random_state_is_left_alone(mini: Path) -> None:
    before = torch.get_rng_state()
    clouds = modelnet(mini, scale=[0.8, 1.25], jitter=0.1)
    for inputs, _ in clouds.train_batches(0, batch_size=4, seed=0):
        clouds.perturb(inputs, generator(0, "test"))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_networks_and_augmentations_are_told() -> None:
    clouds = memory_data()
    assert (clouds.inputs, clouds.model_options) == ("points", {"num_classes": 2, "channels": 6})
    assert clouds.augmentation_options == {}
    assert torch.equal(clouds.example(), clouds.train.points[:1])
    digits = data.digits("digits", [0.3], [0.4])
    assert (digits.inputs, digits.model_options) == ("images", {"num_classes": 10, "channels": 1, "size": 8})
    assert digits.augmentation_options == {"normalisation": ((0.3,), (0.4,))}
    assert digits.example().shape == (1, 1, 8, 8)
    assert digits.perturb(digits.example(), generator(0, "test")) is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda clouds: next(clouds.eval_batches("validation", batch_size=2)),
            "hold some clouds out: dataset.validation",
        ),
        (lambda clouds: next(clouds.eval_batches("test", batch_size=2, limit=0)), "cannot evaluate 0 clouds"),
        (lambda clouds: memory_data(1), "has 1 training cloud; training needs at least 2"),
    ],
)
def test_mistakes_in_use_are_explained(call: Callable[[PointData], Any], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        call(memory_data())


# ---- what training does to clouds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["x", "y", "z", "any"])
@pytest.mark.parametrize("channels", [3, 6])
def test_rotate_equals_a_loop(axis: str, channels: int) -> None:
    clouds = torch.randn(5, 7, channels, generator=generator(0, "clouds"))
    matrices = draw_rotations(5, axis, generator(0, "test"))
    expected = torch.empty_like(clouds)
    for index, points in enumerate(clouds):
        for row, point in enumerate(points):
            for start in range(0, channels, 3):
                expected[index, row, start : start + 3] = matrices[index] @ point[start : start + 3]
    assert torch.allclose(rotate(clouds, matrices), expected, atol=1e-6)
    identity = torch.eye(3).expand(5, 3, 3)
    assert torch.allclose(matrices @ matrices.mT, identity, atol=1e-6)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(5), atol=1e-6)
    if axis != "any":
        fixed = torch.eye(3)["xyz".index(axis)]
        assert torch.allclose(matrices @ fixed, fixed.expand(5, 3), atol=1e-6)


def test_a_turn_about_z_takes_x_to_y() -> None:
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    assert rotate(torch.tensor([[[1.0, 0, 0, 0, 1, 0]]]), quarter).tolist() == [[[0, 1, 0, -1, 0, 0]]]
    angles = draw_rotations(4000, "z", generator(0, "test"))
    turned = torch.atan2(angles[:, 1, 0], angles[:, 0, 0])
    assert turned.histc(8, -math.pi, math.pi).sub(500).abs().max() < 110  # 5 standard deviations


def test_random_rotations_are_uniform() -> None:
    matrices = draw_rotations(4000, "any", generator(0, "test"))
    for column in matrices.unbind(-1):  # where each axis is turned to: the z of a uniform direction is uniform
        assert column[:, 2].histc(8, -1, 1).sub(500).abs().max() < 110
    angle = ((matrices.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert angle.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.05)  # of the law (1 - cos t) / pi


def test_scale_shift_and_jitter_equal_a_loop_and_leave_normals() -> None:
    clouds = torch.randn(4, 6, 6, generator=generator(0, "clouds"))
    scale, shift = torch.tensor([1.0, 2, 0.5, 3]), torch.randn(4, 3, generator=generator(0, "shift"))
    noise = 4 * torch.randn(4, 6, 3, generator=generator(0, "noise"))
    assert noise.abs().max() > 5
    moved, noisy = scale_and_shift(clouds, scale, shift), jitter(clouds, noise, 0.1)
    for b in range(4):
        for p in range(6):
            for c in range(3):
                assert moved[b, p, c].item() == pytest.approx((clouds[b, p, c] * scale[b] + shift[b, c]).item())
                limited = min(max(noise[b, p, c].item(), -5), 5)
                assert noisy[b, p, c].item() == pytest.approx(clouds[b, p, c].item() + 0.1 * limited, abs=1e-6)
    assert torch.equal(moved[..., 3:], clouds[..., 3:])
    assert torch.equal(noisy[..., 3:], clouds[..., 3:])


def test_perturb_draws_for_each_cloud_within_the_ranges() -> None:
    perturbation = Perturbation(scale=(0.8, 1.25), shift=0.1)
    clouds = torch.zeros(3000, 2, 6)
    clouds[:, 1, 0] = clouds[:, :, 5] = 1
    before = clouds.clone()
    moved = memory_data(perturbation=perturbation).perturb(clouds, generator(0, "test"))
    assert torch.equal(clouds, before)
    assert torch.equal(moved[..., 3:], clouds[..., 3:])
    shift, scale = moved[:, 0, :3], (moved[:, 1] - moved[:, 0])[:, 0]
    for values, low, high in (
        (scale, 0.8, 1.25),
        (shift[:, 0], -0.1, 0.1),
        (shift[:, 1], -0.1, 0.1),
        (shift[:, 2], -0.1, 0.1),
    ):
        assert low - 1e-6 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
    assert abs(torch.corrcoef(torch.cat([shift, scale[:, None]], 1).T) - torch.eye(4)).max() < 0.1


def test_perturb_rotates_then_scales_then_shifts_then_jitters() -> None:
    clouds = torch.randn(5, 7, 6, generator=generator(0, "clouds"))
    draws = generator(3, "test")
    expected = rotate(clouds, draw_rotations(5, "y", draws))
    numbers = torch.rand(5, 4, generator=draws)
    expected = scale_and_shift(expected, 0.5 + 1.5 * numbers[:, 0], (2 * numbers[:, 1:] - 1) * 0.3)
    noise = torch.empty(5, 7, 3).normal_(
        generator=torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
    )
    expected = jitter(expected, noise, 0.02)
    result = Perturbation((0.5, 2), 0.3, "y", 0.02)(clouds, generator(3, "test"))
    assert torch.allclose(result, expected, atol=1e-6)
    assert Perturbation()(clouds, generator(0, "test")) is clouds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": [1.25, 0.8]}, r"scale=\[1.25, 0.8\] must be two factors"),
        ({"scale": [0, 1]}, r"scale=\[0, 1\] must be above 0 at index 0"),
        ({"scale": 0.8}, "scale=0.8 must be a list or null"),
        ({"shift": -0.1}, "shift=-0.1 must be at least 0"),
        ({"jitter": math.nan}, "jitter=nan must be a finite number"),
        ({"rotate": "up"}, "rotate='up' must be 'x', 'y', 'z' or 'any' or null"),
        ({"points": 1}, "points=1 must be at least 2"),
        ({"points": 2.5}, "points=2.5 must be a whole number"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
        ({"subset": 13}, "subset=13 must be a whole number of clouds from 1 to the 12 there are"),
        ({"test_subset": 0}, "test_subset=0 must be at least 1"),
        ({"validation": 1.0}, "validation=1.0 must be below 1"),
        ({"classes": ["a", "d"]}, "classes=d is none of the classes of .*mini, which are a, big_b, c"),
    ],
)
def test_settings_out_of_range_are_explained_before_files_are_read(
    mini: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReldropError, match=message):
        modelnet(mini, **settings)
    assert not (mini.parent / "cache").exists()


# ---- sampling ---------------------------------------------------------------------------------------------------------


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
    two = modelnet(mini, classes=["c", "a"])
    assert (two.classes, two.train.labels.tolist()) == (("a", "c"), [0] * 4 + [1] * 4)
    assert torch.equal(two.train.points[4:], whole.train.points[8:])


@pytest.mark.slow
def test_processes_give_what_one_gives_and_name_a_bad_file(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = modelnet(mini)
    monkeypatch.setattr(cloud_sampling, "PARALLEL_FROM", 1)
    monkeypatch.setattr(cloud_sampling, "BLOCK", 4)
    elsewhere = modelnet(mini, workers=2, cache_dir=str(mini.parent / "other"))
    for split in ("train", "test"):
        assert torch.equal(getattr(expected, split).points, getattr(elsewhere, split).points)
    bad = write_text(mini / "c" / "c_0003.txt", np.full((3, 6), np.nan))
    with pytest.raises(ReldropError, match=rf"^{bad}, row 1: .*nan.* is not finite"):
        modelnet(mini, workers=2)


# ---- the prepared file ------------------------------------------------------------------------------------------------


def cache_files(base: Path) -> list[str]:
    return sorted(path.name for path in (base.parent / "cache").iterdir() if not path.name.endswith(".lock"))


def refuse(*_: Any) -> None:
    raise AssertionError("files are read again")


def test_later_uses_map_the_file(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = modelnet(mini)
    monkeypatch.setattr(cloud_sampling, "read_cloud", refuse)
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
    other = cloud_cache.save({"train_points": torch.zeros(1)}, {"few": "0"})
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
        return cloud_sampling.sample_all(*arguments)

    monkeypatch.setattr(cloud_cache, "sample_all", slowly)
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
    arguments = {"root": str(base.parent), "folders": [base.name], "prefix": "mini", "name": "mini", "points": 16}
    arguments |= {"cache_dir": str(base.parent / "cache"), "workers": 0, **settings}
    return "\n".join(
        [
            "import time",
            "from reldrop import data",
            "from reldrop.data import cloud_cache, cloud_sampling",
            before,
            f"clouds = data.modelnet(**{arguments!r})",
            "print(len(clouds.train), float(clouds.train.points.sum()))",
        ]
    )


@pytest.mark.slow
def test_two_processes_at_once_give_the_same(mini: Path) -> None:
    command = [sys.executable, "-c", script(mini)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in started]
    assert outputs[0] == outputs[1] == f"12 {float(modelnet(mini).train.points.sum())}\n"


@pytest.mark.slow
def test_a_kill_while_preparing_leaves_nothing_that_counts(mini: Path) -> None:
    stall = "save = cloud_cache.save\ncloud_cache.save = lambda *a: print('saving', flush=True) or time.sleep(60)"
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


@pytest.mark.slow
def test_a_script_that_cannot_start_processes_is_told(mini: Path, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(script(mini, "cloud_sampling.PARALLEL_FROM, cloud_sampling.BLOCK = 1, 4", workers=2))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "set dataset.workers=0" in done.stderr.splitlines()[-1]
    assert "under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]
    assert cache_files(mini) == []


def test_a_folder_that_cannot_be_written_is_explained(mini: Path) -> None:
    (mini.parent / "file").write_text("no folder")
    with pytest.raises(
        ReldropError, match=r"cannot keep the prepared clouds of mini in .*file/cache \(Not a directory\); set"
    ):
        modelnet(mini, cache_dir=str(mini.parent / "file" / "cache"))


def test_names_that_are_no_file_names(mini: Path) -> None:
    modelnet(mini, name="my set/1")
    assert cache_files(mini)[0].startswith("my_set_1-16-")


# ---- files ------------------------------------------------------------------------------------------------------------


def write_ply(path: Path, header: str, rows: str) -> Path:
    path.write_text(f"ply\nformat ascii 1.0\n{header}end_header\n{rows}")
    return path


XYZ = "property float x\nproperty float y\nproperty float z\n"
NORMALS = "property float nx\nproperty float ny\nproperty float nz\n"
FACES = "element face 12\nproperty list uchar int vertex_indices\n"


@pytest.mark.parametrize(("name", "delimiter"), [("a.txt", ","), ("a.txt", " "), ("a.xyz", "\t"), ("a.TXT", ", ")])
def test_text(tmp_path: Path, name: str, delimiter: str) -> None:
    values = cloud(0, columns=7)
    path = str(write_text(tmp_path / name, values, delimiter))
    assert np.array_equal(read_cloud(path, True), values[:, :6])
    assert np.array_equal(read_cloud(path, False), values[:, :3])


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud(0).astype(np.float32))
    assert np.array_equal(read_cloud(str(tmp_path / "a.npy"), True), cloud(0).astype(np.float32))
    for wrong in (cloud(0).reshape(-1), np.array([["a"]]), np.array([[None]])):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(ReldropError, match=r"cannot read cloud .*a.npy: .*; replace or remove it"):
            read_cloud(str(tmp_path / "a.npy"), True)


def test_ply_of_points(tmp_path: Path) -> None:
    values = cloud(0, 5).astype(np.float32)
    rows = "".join(" ".join(map(str, row)) + "\n" for row in values)
    path = write_ply(tmp_path / "a.ply", f"element vertex 5\n{XYZ}{NORMALS}", rows)
    assert np.array_equal(read_cloud(str(path), True), values)
    rows = "".join(" ".join(map(str, row[:3])) + "\n" for row in values)
    path = write_ply(tmp_path / "a.ply", f"element vertex 5\n{XYZ}", rows)
    assert np.array_equal(read_cloud(str(path), False), values[:, :3])
    with pytest.raises(ReldropError, match=r"a.ply has 3 columns where 6 are needed .*; set dataset.normals=false"):
        read_cloud(str(path), True)


@pytest.mark.parametrize("form", ["off", "glued", "ply", "quads"])
def test_meshes_are_sampled_evenly_with_the_normals_of_their_faces(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("cube.ply" if form == "ply" else "cube.off")
    if form == "ply":
        write_ply(path, f"element vertex 8\n{XYZ}{FACES}", CUBE.partition("\n")[2])
    elif form == "quads":
        corners = "\n".join(CUBE.splitlines()[1:9])
        path.write_text(f"OFF\n8 6 0\n{corners}\n4 0 3 2 1\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n")
    else:
        path.write_text(("OFF" if form == "glued" else "OFF\n") + CUBE)
    points, normals = np.split(read_cloud(str(path), True), 2, axis=1)
    assert len(points) == SURFACE_POINTS
    axis, sign = np.abs(normals).argmax(1), normals.sum(1)
    assert np.array_equal(np.abs(normals).sum(1), np.ones(len(points)))
    assert np.allclose(np.take_along_axis(points, axis[:, None], 1)[:, 0], (sign + 1) / 2)
    assert np.abs(np.bincount(2 * axis + (sign > 0)) - SURFACE_POINTS / 6).max() < 200  # 5 standard deviations
    assert points.min() >= 0
    assert points.max() <= 1
    assert np.array_equal(points, read_cloud(str(path), False))
    other = path.rename(path.with_stem("other"))
    assert not np.array_equal(points, read_cloud(str(other), False))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1,2,3,0,0,1\n1,nan,3,0,0,1\n", r"a.txt, row 2: \[1.0, nan, 3.0, .*\] is not finite"),
        ("a.txt", "1 2 3 0 0 1\n4 5 6 0 0 -inf\n", "a.txt, row 2: .* is not finite"),
        ("a.txt", "1 2 3 0 0 1\n4 5 1e30 0 0 1\n", "a.txt, row 2: .* is not finite, or too large"),
        (
            "a.txt",
            "1,2,3\n4,5,6\n",
            r"a.txt has 3 columns where 6 are needed \(x, y, z, nx, .*; set dataset.normals=false",
        ),
        ("a.txt", "1,2\n4,5\n", r"a.txt has 2 columns where 6 are needed \(x, y, z, nx, ny, nz\)$"),
        ("a.txt", "", "cloud .*a.txt has no points; replace or remove it"),
        ("a.txt", "\n\n", "a.txt has no points"),
        ("a.txt", "1,2,3,0,0,1\n" * 3, "all points of cloud .*a.txt are the same"),
        ("a.txt", "1,2,3,0,0,1\n1,2,3\n", "cannot read cloud .*a.txt: .*columns.*; replace or remove it"),
        ("a.txt", "x,y,z\n1,2,3\n", "cannot read cloud .*a.txt: could not convert string 'x'.*; replace"),
        ("a.txt", b"\xff\xfe\x00", "cannot read cloud .*a.txt: "),
        ("a.npy", b"no array", "cannot read cloud .*a.npy: "),
        ("a.off", "OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "mesh .*a.off has no faces"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "mesh .*a.off has a surface of area 0"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "a.off, vertex 3: .* is not finite"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n", "cannot read cloud .*a.off: "),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "cannot read cloud .*a.off: "),
        ("a.off", "", "cannot read cloud .*a.off: "),
        ("a.ply", "", "cannot read cloud .*a.ply: "),
        ("a.ply", f"ply\nformat ascii 1.0\nelement vertex 0\n{XYZ}end_header\n", "a.ply has no points"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReldropError, match=message) as caught:
        read_cloud(str(path), True)
    assert "\n" not in str(caught.value)


def test_small_clouds_are_filled_up_with_one_warning(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a_0001", "a_0101"):
        write_text(mini / "a" / f"{name}.txt", cloud(0, 5))
    for _ in range(2):  # prepared, and found prepared
        caplog.clear()
        small = modelnet(mini).train.points[0]
        assert len(small.unique(dim=0)) == 5
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
            "2 of the 18 clouds of mini have fewer than 16 points; some of theirs are repeated"
        ]


# ---- layouts ----------------------------------------------------------------------------------------------------------


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda base: (base / "a" / "a_0002.txt").unlink(), r"mini_train.txt, line 2: there is no .*mini/a/a_0002.txt"),
        (
            lambda base: edit(base / "mini_test.txt", "c_0102", "d_0102"),
            "mini_test.txt, line 6: 'd_0102' is of no class",
        ),
        (lambda base: (base / "mini_test.txt").write_text("\n"), "mini_test.txt lists no clouds"),
        (lambda base: (base / "mini_test.txt").unlink(), "cannot read .*mini_test.txt: No such file"),
        (lambda base: (base / "mini_shape_names.txt").unlink(), "cannot read .*mini_shape_names.txt: No such file"),
        (lambda base: (base / "mini_shape_names.txt").write_text(""), "mini_shape_names.txt is empty"),
    ],
)
def test_mistakes_in_lists_are_explained(mini: Path, change: Callable[[Path], None], message: str) -> None:
    change(mini)
    with pytest.raises(ReldropError, match=message):
        modelnet(mini)


def test_a_class_without_training_clouds_is_one_warning(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(mini / "mini_shape_names.txt", "c\n", "c\r\nd\r\n\r\ne\r\n")
    assert modelnet(mini).classes == ("a", "big_b", "c", "d", "e")
    assert [record.message for record in caplog.records] == ["mini_train.txt lists no training clouds of d, e"]


def test_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(ReldropError) as caught:
        data.modelnet(str(tmp_path), ["some", "none"], "modelnet40", "modelnet40", str(tmp_path))
    for part in (
        f"modelnet40 not found: looked in {tmp_path}/some, {tmp_path}/none (no such folder) for modelnet40_train.txt",
        "ModelNet40.zip",
        "data_dir=PATH",
        "RELDROP_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(
        ReldropError, match=r"shapenet not found: looked in .*some for synsetoffset2category.txt; .*RELDROP"
    ):
        data.shapenet(str(tmp_path), ["some"], "shapenet", str(tmp_path))
    with pytest.raises(
        ReldropError, match=r"point folder not found: looked in .*none \(no such folder\); set dataset.folder"
    ):
        data.point_folder(str(tmp_path), "none", str(tmp_path))


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    """The HDF5 form of ModelNet with three classes and two files of training clouds."""
    base = tmp_path / "root" / "hdf5"
    base.mkdir(parents=True)
    (base / "shape_names.txt").write_text("a\nbig_b\nc\n")
    for split, files in (("train", 2), ("test", 1)):
        names = [f"ply_data_{split}{number}.h5" for number in range(files)]
        (base / f"{split}_files.txt").write_text("".join(f"data/modelnet40_ply_hdf5_2048/{name}\n" for name in names))
        for number, name in enumerate(names):
            values = np.stack([cloud(100 * number + row) for row in range(20)])
            with h5py.File(base / name, "w") as file:
                file.create_dataset("data", data=values[..., :3].astype(np.float32), compression="gzip")
                file.create_dataset("normal", data=values[..., 3:].astype(np.float32), compression="gzip")
                file.create_dataset("label", data=np.arange(20, dtype=np.uint8)[:, None] % 3)
    return base


def test_h5(h5: Path) -> None:
    clouds = modelnet(h5)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (40, 20, ("a", "big_b", "c"))
    assert clouds.source == "HDF5 files in folder hdf5"
    assert clouds.train.labels.tolist() == [row % 3 for row in range(20)] * 2
    assert np.allclose(clouds.train.points[27], sample([cloud(107)], 16)[0][0], atol=1e-6)
    two = modelnet(h5, classes=["c", "big_b"])
    assert two.train.labels.tolist()[:4] == [0, 1, 0, 1]
    assert torch.equal(two.train.points, clouds.train.points[clouds.train.labels > 0])
    path = str(h5 / "ply_data_train1.h5")
    assert [len(values) for values in read_h5(path, [3, 7], False)] == [40, 40]
    assert h5_labels(path).dtype == np.int64


def test_mistakes_in_h5_are_explained(h5: Path) -> None:
    path = h5 / "ply_data_train1.h5"
    with h5py.File(path, "a") as file:
        del file["normal"]
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5 has no normals; set dataset.normals=false"):
        modelnet(h5)
    assert modelnet(h5, normals=False).channels == 3
    with h5py.File(path, "a") as file:
        file["data"][4, 6, 1] = np.nan
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5\[4\], row 7: .*nan"):
        modelnet(h5, normals=False)
    with h5py.File(path, "a") as file:
        file["label"][2] = 9
    with pytest.raises(ReldropError, match=r"ply_data_train1.h5\[2\] has label 9, but .*shape_names.txt 3 names"):
        modelnet(h5)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ReldropError, match=r"cannot read .*ply_data_train1.h5: .*; unpack or download it again"):
        modelnet(h5)
    path.unlink()
    with pytest.raises(ReldropError, match=r"train_files.txt, line 2: there is no .*ply_data_train1.h5"):
        modelnet(h5)


def test_archive_of_meshes(tmp_path: Path) -> None:
    base = tmp_path / "root" / "ModelNet40"
    for name in ("a", "big_b"):
        for split, count in (("train", 2), ("test", 1)):
            (base / name / split).mkdir(parents=True)
            for number in range(count):
                (base / name / split / f"{name}_{split}{number}.off").write_text(f"OFF{CUBE}")
    (base / "README.txt").write_text("not a class")
    (base / "a" / "train" / ".DS_Store").write_text("no mesh")
    clouds = modelnet(base)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (4, 2, ("a", "big_b"))
    assert clouds.source == "meshes in folder ModelNet40"
    assert torch.allclose(clouds.train.points[..., 3:].norm(dim=-1), torch.ones(4, 16))
    assert modelnet(base, classes=["big_b"]).train.labels.tolist() == [0, 0]
    (base / "big_b" / "test" / "big_b_test0.off").unlink()
    with pytest.raises(
        ReldropError, match=r"ModelNet40/big_b/test has no clouds; add some \(.off\) or remove the class"
    ):
        modelnet(base)


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    base = tmp_path / "root" / "shapenet"
    (base / "train_test_split").mkdir(parents=True)
    (base / "synsetoffset2category.txt").write_text("Airplane\t02691156\nBag\t02773838\n")
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        entries = [f"shape_data/{synset}/{part}{i}" for i in range(count) for synset in ("02773838", "02691156")]
        (base / "train_test_split" / f"shuffled_{part}_file_list.json").write_text(json.dumps(entries))
        for seed, entry in enumerate(entries):
            write_text(base / f"{entry.removeprefix('shape_data/')}.txt", cloud(seed, columns=7), " ")
    return base


def read_shapenet(base: Path) -> PointData:
    return data.shapenet(str(base.parent), ["shapenet"], "shapenet", str(base.parent / "cache"), points=16, workers=0)


def test_shapenet(shapenet: Path) -> None:
    clouds = read_shapenet(shapenet)
    assert (len(clouds.train), len(clouds.test), clouds.classes) == (8, 4, ("Airplane", "Bag"))
    assert clouds.train.labels.tolist() == [1, 0] * 4
    assert np.allclose(clouds.train.points[0], sample([cloud(0, columns=7)[:, :6]], 16)[0][0])


def test_mistakes_in_shapenet_are_explained(shapenet: Path) -> None:
    (shapenet / "02773838" / "val0.txt").unlink()
    with pytest.raises(ReldropError, match=r"shuffled_val_file_list.json, entry 1: there is no .*/02773838/val0.txt"):
        read_shapenet(shapenet)
    lists = shapenet / "train_test_split" / "shuffled_train_file_list.json"
    edit(lists, "shape_data/02691156/train0", "shape_data/7/train0")
    with pytest.raises(
        ReldropError, match=r"shuffled_train_file_list.json, entry 2: 'shape_data/7/train0' is of no class"
    ):
        read_shapenet(shapenet)
    for content, message in (("[1", "cannot read .*shuffled_train_file_list.json"), ("[1]", "must be a list of names")):
        lists.write_text(content)
        with pytest.raises(ReldropError, match=message):
            read_shapenet(shapenet)
    (shapenet / "synsetoffset2category.txt").write_text("Airplane\n")
    with pytest.raises(ReldropError, match=r"synsetoffset2category.txt must have a class a line"):
        read_shapenet(shapenet)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Clouds of two classes, in files of all kinds."""
    base = tmp_path / "root" / "own"
    for label, name in enumerate(("cup", "tea_pot")):
        for index in range(5):
            write_text(base / name / f"{name}_{index}.txt", cloud(10 * label + index))
        write_text(base / name / "spaces.xyz", cloud(10 * label + 5), " ")
        np.save(base / name / "array.npy", cloud(10 * label + 6))
        (base / name / "mesh.off").write_text(f"OFF\n{CUBE}")
        write_ply(base / name / "mesh.ply", f"element vertex 8\n{XYZ}{FACES}", CUBE.partition("\n")[2])
        (base / name / "notes.md").write_text("no cloud")
        (base / name / ".hidden.txt").write_text("no cloud")
        (base / name / "spare").mkdir()
    (base / "own_train.txt").write_text("cup/array\ncup_1\ntea_pot_0\n\ntea_pot/mesh\n")
    (base / "own_test.txt").write_text("cup/cup_0.txt\ntea_pot_3\n")
    return base


def test_point_folder_with_a_fixed_split(own: Path) -> None:
    clouds = point_folder(own)
    assert (clouds.name, clouds.classes) == ("own", ("cup", "tea_pot"))
    assert (len(clouds.train), clouds.test.labels.tolist()) == (14, [0, 0, 1, 1])
    everything = torch.cat([clouds.train.points, clouds.test.points])
    assert len(everything.unique(dim=0)) == 16  # the two cubes of a kind are drawn on alike: that depends on the name
    assert torch.equal(point_folder(own, name="other").train.points, clouds.train.points)
    assert len(point_folder(own, test_share=0.5).test) == 9


def test_point_folder_with_lists(own: Path) -> None:
    clouds = point_folder(own, lists="own")
    assert (clouds.train.labels.tolist(), clouds.test.labels.tolist()) == ([0, 0, 1, 1], [0, 1])
    expected, _ = sample([cloud(6), cloud(1), cloud(10)], 16)
    assert np.allclose(clouds.train.points[:3], expected, atol=1e-6)
    edit(own / "own_train.txt", "cup_1", "cup_9")
    with pytest.raises(
        ReldropError, match=r"own_train.txt, line 2: there is no .*cup/cup_9.txt \(nor .xyz .npy .ply .off\)"
    ):
        point_folder(own, lists="own")
    with pytest.raises(ReldropError, match=r"cannot read .*your_train.txt: No such file"):
        point_folder(own, lists="your")


def test_mistakes_in_point_folders_are_explained(own: Path, tmp_path: Path) -> None:
    for share, message in (
        (0, "must be above 0"),
        (1, "must be below 1"),
        (0.01, "of 18 clouds leaves none on one side"),
    ):
        with pytest.raises(ReldropError, match=f"^test_share={share} {message}"):
            point_folder(own, test_share=share)
    (own / "vase").mkdir()
    (own / "vase" / "notes.md").write_text("no cloud")
    with pytest.raises(ReldropError, match=r"own/vase has no clouds; add some \(.txt .xyz .npy .ply .off\) or remove"):
        point_folder(own)
    (tmp_path / "root" / "empty").mkdir()
    with pytest.raises(ReldropError, match="empty has no class folders; it needs a folder of clouds for each class"):
        point_folder(tmp_path / "root" / "empty")


# ---- generated shapes -------------------------------------------------------------------------------------------------


def test_shapes() -> None:
    clouds = data.shapes("shapes", validation=0.1, test_subset=50)
    assert (len(clouds.train), len(clouds.validation), len(clouds.test), clouds.num_classes) == (540, 60, 50, 10)
    assert clouds.train.points.shape == (540, 256, 6)
    assert torch.equal(clouds.train.points, data.shapes("shapes", validation=0.1).train.points)
    assert torch.allclose(clouds.train.points[..., :3].norm(dim=-1).amax(1), torch.ones(540))
    assert torch.allclose(clouds.train.points[..., 3:].norm(dim=-1), torch.ones(540, 256), atol=1e-5)
    assert data.shapes("shapes", points=64, normals=False).train.points.shape == (600, 64, 3)
    with pytest.raises(ReldropError, match=r"points=0 must be at least 2"):
        data.shapes("shapes", points=0)


@pytest.mark.parametrize("kind", BODIES)
def test_normals_of_shapes_are_those_of_the_surface(kind: str) -> None:
    points, normals = BODIES[kind](3, 3000, generator(0, "test"))
    assert torch.allclose(normals.norm(dim=-1), torch.ones(3, 3000), atol=1e-5)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = distances.topk(4, largest=False).indices[..., 1:]
    # The way to a close neighbour on the same side of an edge is across the normal.
    for body in range(3):
        offsets = points[body][near[body]] - points[body][:, None]
        alike = (normals[body][near[body]] * normals[body][:, None]).sum(-1) > 0.95
        slope = (offsets * normals[body][:, None]).sum(-1).abs() / offsets.norm(dim=-1)
        assert alike.float().mean() > 0.7
        assert slope[alike].mean() < 0.12


@pytest.mark.parametrize("kind", ["box", "cone", "cylinder", "pyramid", "capsule", "ellipsoid"])
def test_normals_of_convex_shapes_point_outward(kind: str) -> None:
    points, normals = BODIES[kind](3, 500, generator(0, "test"))
    # Convexity: no other point lies in front of the plane through a point.
    heights = torch.einsum("bpc,bqc->bpq", normals, points) - (normals * points).sum(-1)[..., None]
    assert heights.max() < 1e-4


# ---- real data --------------------------------------------------------------------------------------------------------


def real(name: str, tmp_path: Path, **settings: Any) -> PointData:
    root = os.environ.get("RELDROP_DATA", str(CONFIGS.parents[1] / "data"))
    config = OmegaConf.merge(OmegaConf.load(CONFIGS / f"{name}.yaml"), {"data_dir": root, **settings})
    config.update(cache_dir=str(tmp_path), workers=0)
    config = {key: value for key, value in OmegaConf.to_container(config, resolve=True).items() if key != "data_dir"}
    function = getattr(data, config.pop("_target_").removeprefix("reldrop.data."))
    try:
        return function(**config)
    except ReldropError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"there is no {name} in {root}")


@pytest.mark.slow
def test_real_psb19(tmp_path: Path) -> None:
    clouds = real("psb19", tmp_path, points=256)
    assert (len(clouds.train), len(clouds.test), clouds.num_classes) == (285, 95, 19)
    assert clouds.train.labels.bincount().tolist() == [15] * 19
    assert ((clouds.train.points[..., 3:].norm(dim=-1) - 1).abs() < 0.01).float().mean() > 0.99
    assert clouds.train.points.isfinite().all()


def test_real_modelnet_fragment(tmp_path: Path) -> None:
    clouds = real("modelnet40", tmp_path, points=64, folders=["modelnet40_fragment"])
    assert (clouds.num_classes, len(clouds.train) + len(clouds.test)) == (40, 72)
    inputs, _ = next(clouds.train_batches(0, batch_size=8, seed=0))
    assert inputs.shape == (8, 64, 6)
    assert torch.allclose(inputs[..., :3].norm(dim=-1).amax(1), torch.ones(8))

"""From files to clouds of one size: read, sample farthest points, center and scale; many files in parallel processes."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from reldrop.data.points.files import read_cloud, read_h5
from reldrop.data.points.listing import CloudFile
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.point_ops import farthest_points
from reldrop.utils.seeding import generator
from reldrop.utils.signals import ignore_signals

BLOCK = 16  # clouds read and sampled at a time
PARALLEL_FROM = 512  # clouds; fewer are read before processes have started

Block = tuple[np.ndarray, int]  # clouds (n, points, C), and how many of them had fewer points


def sample_all(base: Path, files: Sequence[CloudFile], points: int, normals: bool, workers: int | None) -> Block:
    """Read and sample clouds; return them, float32 (N, points, 6 or 3), and how many of them had fewer points.

    Args:
        base: folder that the files lie in.
        files: N clouds.
        points: of each cloud.
        normals: whether the normals of the points are kept.
        workers: processes that read; None for one a core, 0 for the calling process alone.

    Raises:
        ReldropError: a file cannot be read or is no cloud, or a reading process ended.
    """
    clouds = np.empty((len(files), points, 6 if normals else 3), np.float32)
    starts = range(0, len(files), BLOCK)
    blocks = [files[start : start + BLOCK] for start in starts]
    few = 0
    with (
        closing(_read(_Sampler(base, points, normals), blocks, workers)) as results,
        tqdm(total=len(files), desc="prepare clouds", disable=not sys.stderr.isatty()) as bar,
    ):
        for start, result in zip(starts, results, strict=True):
            if isinstance(result, str):
                raise ReldropError(result)
            block, count = result
            clouds[start : start + len(block)] = block
            few += count
            bar.update(len(block))
    return clouds, few


class _Sampler(Dataset):
    """What the reading processes run: from files to sampled clouds, or to the message why there are none."""

    def __init__(self, base: Path, points: int, normals: bool) -> None:
        self.base, self.points, self.normals = base, points, normals

    def __getitem__(self, files: Sequence[CloudFile]) -> Block | str:
        try:
            return sample([*self._clouds(files)], self.points)
        except ReldropError as error:
            return str(error)  # a DataLoader would wrap a raised one in the worker's traceback

    def _clouds(self, files: Sequence[CloudFile]) -> Iterator[np.ndarray]:
        while files:
            path, row = str(self.base / files[0].name), files[0].row
            if row is None:
                yield read_cloud(path, self.normals)
                files = files[1:]
            else:
                rows = [file.row for file in files if file.name == files[0].name]
                yield from read_h5(path, rows, self.normals)
                files = files[len(rows) :]


def _read(
    sampler: _Sampler, blocks: Sequence[Sequence[CloudFile]], workers: int | None
) -> Generator[Block | str, None, None]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores if workers is None else workers, len(blocks))
    if processes < 2 or sum(map(len, blocks)) < PARALLEL_FROM:
        with _one_thread():
            yield from map(sampler.__getitem__, blocks)
        return
    # Spawned processes inherit no threads, locks or devices of this one. A DataLoader's have one thread each.
    loader = DataLoader(
        sampler,
        batch_size=None,  # an "index" of this sampler is a block of files
        sampler=blocks,
        num_workers=processes,
        collate_fn=_unchanged,  # tensors would take up shared memory, which containers are short of
        multiprocessing_context="spawn",
        worker_init_fn=_follow_parent,
        generator=generator(0, "loader"),  # else it draws from the global one
    )
    try:
        yield from loader
    except RuntimeError as error:
        raise ReldropError(
            f"a process that reads clouds has ended ({first_line(error)}); set dataset.workers=0 to read without "
            "such processes (a script of one's own can start them from under `if __name__ == '__main__':` only)"
        ) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: sampling is many small steps, and threads would wait for each other at each of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _follow_parent(_: int) -> None:
    """Let a reading process end when the one that started it does, and not before, in the middle of its results."""
    ignore_signals()

    def watch() -> None:  # for a parent that is killed
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _unchanged(block: Block | str) -> Block | str:
    return block


def sample(clouds: Sequence[np.ndarray], points: int) -> Block:
    """Choose `points` farthest points of each cloud, and put them into the unit ball.

    Args:
        clouds: each float64 (n, C), with n of its own.
        points: how many to choose, the first point of the cloud first. Of a smaller cloud all are chosen, in the order
            of the sampling, and again from the start until they are enough.

    Returns:
        float32 (N, points, C), and how many of the clouds are smaller.
    """
    result = np.empty((len(clouds), points, clouds[0].shape[1]), np.float32)
    sizes = [len(cloud) for cloud in clouds]
    for size in set(sizes):  # farthest points are sampled for all clouds of one size at once
        members = [index for index, other in enumerate(sizes) if other == size]
        xyz = np.stack([in_unit_ball(clouds[index])[:, :3] for index in members])
        chosen = farthest_points(torch.from_numpy(xyz), points).numpy()
        chosen = chosen[:, np.arange(points) % chosen.shape[1]]
        for index, order in zip(members, chosen, strict=True):
            result[index] = in_unit_ball(clouds[index][order])
    return result, sum(size < points for size in sizes)


def in_unit_ball(cloud: np.ndarray) -> np.ndarray:
    """Center a cloud (n, C) on the mean of its points and scale it so that the farthest has norm 1; float32 (n, C).

    Normals stay as they are.
    """
    xyz = cloud[:, :3] - cloud[:, :3].mean(0)
    xyz /= np.linalg.norm(xyz, axis=1).max()
    return np.concatenate([xyz, cloud[:, 3:]], 1, dtype=np.float32)

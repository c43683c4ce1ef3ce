"""From files to clouds of one size: read, sample farthest points, center and scale; many files in parallel processes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from reldrop.data.points.files import CloudFile, read_cloud, read_h5
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.machine import Machine
from reldrop.utils.point_ops import farthest_points

BLOCK = 16  # clouds read and sampled at a time
PARALLEL_FROM = 512  # clouds; fewer are read before processes have started

Block = tuple[np.ndarray, int]  # clouds (n, points, C), and how many of them had fewer points


def sample_all(base: Path, files: Sequence[CloudFile], points: int, normals: bool, machine: Machine) -> Block:
    """Read and sample clouds; return them, float32 (N, points, 6 or 3), and how many of them had fewer points.

    Args:
        base: folder of the N files.
        points: of each cloud.
        normals: whether the normals of the points are kept.
        machine: says how many processes read, and whether a bar shows how far they are.

    Raises:
        ReldropError: a file cannot be read or is no cloud, or a reading process ended.
    """
    from joblib import Parallel, delayed, parallel_config

    clouds = np.empty((len(files), points, 6 if normals else 3), np.float32)
    done = few = 0
    processes = machine.processes if len(files) >= PARALLEL_FROM else 1
    tasks = (
        delayed(_sample_files)(base, files[start : start + BLOCK], points, normals)
        for start in range(0, len(files), BLOCK)
    )
    with (
        parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=10, initializer=_follow_parent),
        tqdm(total=len(files), desc="prepare clouds", disable=not (machine.progress and sys.stderr.isatty())) as bar,
    ):
        try:
            # Without max_nbytes, arrays would take up shared memory, which containers are short of.
            for block, count in Parallel(processes or 1, return_as="generator", max_nbytes=None)(tasks):
                clouds[done : done + len(block)] = block
                done, few = done + len(block), few + count
                bar.update(len(block))
        except BrokenProcessPool as error:
            raise ReldropError(
                f"a process that reads clouds has ended ({first_line(error)}); set machine.workers=0 to read without "
                "such processes"
            ) from error
    return clouds, few


def _follow_parent() -> None:
    """Let a reading process end with the process that started it, also when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent as well, which ends this process
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sample_files(base: Path, files: Sequence[CloudFile], points: int, normals: bool) -> Block:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sampling is many small steps, at each of which threads would wait for each other
    try:
        return sample([*_read(base, files, normals)], points)
    finally:
        torch.set_num_threads(threads)


def _read(base: Path, files: Sequence[CloudFile], normals: bool) -> Iterator[np.ndarray]:
    for name, group in groupby(files, lambda file: file.name):
        path, rows = str(base / name), [file.row for file in group]
        yield from [read_cloud(path, normals) for _ in rows] if rows[0] is None else read_h5(path, rows, normals)


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

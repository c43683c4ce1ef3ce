"""What scripts/benchmark.py times of reading point clouds: from text files, and from the file of prepared clouds."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from reldrop.config import CONFIG_PATH, build
from reldrop.data import PointData
from reldrop.data.paths import candidates, first
from reldrop.data.points.files import CloudFile, read_cloud
from reldrop.data.points.listing import FileListing, from_lists, read_names
from reldrop.data.points.preprocessing import sample_all
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine

DATASETS = ("psb19", "modelnet40")
FILES = 24  # text files that are read, at most
FROM_TEXT, CACHED, CACHED_SINGLY = "text, parsed and sampled", "cached, in training batches", "cached, one at a time"


def reading_arms(options: argparse.Namespace) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return what is timed, and how many clouds each of it reads; prepares the clouds where they are not.

    Raises:
        ReldropError: there are no text files of that data set, or they cannot be read.
    """
    machine = Machine(options.data, workers=0)
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", [f"dataset={options.dataset}"])
    config = cfg.dataset
    listing = _listing(config, machine)
    texts = [file for file in listing.train.paths if file.name.endswith(".txt")]
    texts = texts[:: max(1, len(texts) // FILES)][:FILES]
    if not texts:
        raise ReldropError(f"{options.dataset} in {listing.base} has no text files to read")
    data = build(cfg, "dataset", folders=[str(listing.base)], points=options.points, machine=Machine(options.data))
    epoch = sum(len(batch.targets) for batch in data.train_batches(0, batch_size=options.batch_size, seed=0))
    arms = {
        "text, parsed": partial(_parse, listing.base, texts, config.normals),
        FROM_TEXT: partial(sample_all, listing.base, texts, options.points, config.normals, machine),
        CACHED: partial(_read_epoch, data, options.batch_size),
        CACHED_SINGLY: partial(_read_singly, data),
    }
    return arms, dict(zip(arms, (len(texts), len(texts), epoch, len(data.train)), strict=True))


def _listing(config: DictConfig, machine: Machine) -> FileListing:
    bases = candidates(str(machine.root), config.folders)
    base = first(bases, lambda folder: (folder / f"{config.prefix}_train.txt").is_file())
    if base is None:
        raise ReldropError(
            f"no text files of {config.name} found in {machine.root}; --data (or the environment variable RELDROP_DATA) "
            "names the folder that holds them"
        )
    base = base.resolve()
    return from_lists(base, config.prefix, read_names(base / f"{config.prefix}_shape_names.txt"), config.classes)


def _parse(base: Path, files: Sequence[CloudFile], normals: bool) -> None:
    for file in files:
        read_cloud(str(base / file.name), normals)


def _read_epoch(data: PointData, batch_size: int) -> None:
    for _ in data.train_batches(0, batch_size=batch_size, seed=0):
        pass


def _read_singly(data: PointData) -> None:
    """A copy of each cloud: without one, nothing of a mapped file is read."""
    for index in range(len(data.train)):
        data.train.points[index].clone()

"""The machine that a run takes place on: where files are stored, and what it may use."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reldrop.utils.types import NonNegative, WholeNumber, checked

Accelerator = Literal["auto", "cpu", "cuda", "mps"]


@checked
@dataclass(frozen=True)
class Machine:
    """Settings that change how fast a run is, but not its result.

    Args:
        data_dir: folder of the data sets.
        cache_dir: folder of prepared data; None for the folder `cache` in `data_dir`.
        accelerator: what computes.
        workers: processes that read and decode data; None for one for each core, 0 to do so in the process itself.
        memory_gb: image sets up to this size, in gigabytes, are kept decoded in memory.
        download: whether to download data sets that are missing.
        progress: whether to show a progress bar, where there is a terminal.

    Raises:
        ReldropError: for a setting of a wrong type or out of range.
    """

    data_dir: str | Path = "data"
    cache_dir: str | Path | None = None
    accelerator: Accelerator = "auto"
    workers: WholeNumber | None = None
    memory_gb: NonNegative = 8
    download: bool = True
    progress: bool = True

    @property
    def root(self) -> Path:
        """Folder of the data sets."""
        return Path(self.data_dir)

    @property
    def cache(self) -> Path:
        """Folder of prepared data."""
        return self.root / "cache" if self.cache_dir is None else Path(self.cache_dir)

    @property
    def processes(self) -> int:
        """How many processes read and decode data."""
        return cores() if self.workers is None else self.workers


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

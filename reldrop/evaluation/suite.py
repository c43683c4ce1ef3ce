"""What the suites have in common: what is evaluated, how, and what comes of it."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from omegaconf import DictConfig
from torch import Tensor

from reldrop.attribution import Attribution
from reldrop.data import Data
from reldrop.runs.checkpoint import Checkpoint, read_checkpoint
from reldrop.runs.identity import identity, run_hash
from reldrop.runs.reader import UnreadableRun

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Subject:
    """A network that is evaluated: that of a run, or one of timm."""

    name: str  # in reports
    folder: Path  # for results
    label: dict[str, Any]  # says in evaluation files which network it is
    checkpoint: Checkpoint | None = None  # of the run
    model: str | None = None  # timm's name
    weights: Path | None = None  # a file for timm's network; None for its own

    @classmethod
    def from_run(cls, path: Path, checkpoint: str = "last", config: Path | None = None) -> Self:
        """Return the network of a run; the arguments are those of `read_checkpoint`.

        Raises:
            UnreadableRun: a file is missing or damaged.
        """
        found = read_checkpoint(path, checkpoint, config)
        cfg = found.cfg
        names = {group: cfg[group].name for group in ("dataset", "backbone", "augmentation")}
        setting = run_hash({key: value for key, value in identity(cfg).items() if key != "seed"})
        label = {"experiment": cfg.name, **names, "seed": cfg.seed, "setting": setting}
        return cls(found.name, found.file.parent, {**_digest(found.name, found.file), **label}, found)

    @classmethod
    def from_timm(cls, model: str, weights: Path | None, folder: Path) -> Self:
        """Return a network of timm, with its weights or those of a file."""
        name = model if weights is None else f"{model}, weights of {weights.name}"
        return cls(name, folder, _digest(name, weights), model=model, weights=weights)


@dataclass
class Options:
    """How a suite evaluates."""

    fabric: "Fabric"  # the device and the precision
    attribution: Attribution  # where relevance comes from
    data_dir: Path | None = None  # folder of the data sets; None for the one that a run had
    limit: int | None = None  # samples of a data set; None for all
    batch_size: int = 256  # inputs that a network is shown at once
    preprocessing: str = "standard"  # of ImageNet; standard or own
    workers: int = 0  # processes that decode images
    progress: bool = True  # whether to show a bar, on a terminal
    _read: tuple[DictConfig, Data] | None = field(default=None, init=False)

    def data(self, checkpoint: Checkpoint) -> Data:
        """Return the data of a run, on the device; they are read once for runs in succession on the same."""
        if self._read is None or self._read[0] != checkpoint.cfg.dataset:
            data = checkpoint.data(None if self.data_dir is None else str(self.data_dir))
            self._read = checkpoint.cfg.dataset, data.to(self.fabric.device)
        return self._read[1]


@dataclass(frozen=True)
class Result:
    """What a suite found."""

    figures: dict[str, Any]  # nested, as they are written to a JSON file
    samples: dict[str, Tensor]  # what was measured of each sample, GROUP/KEY -> (N, ...)
    pictured: dict[str, Any] = field(default_factory=dict)  # arguments of `checkpoint_figure`; empty for no pictures
    report: str = ""  # in Markdown, printed and written to a file in place of figures in words


class Suite:
    """Base of what measures networks."""

    name: ClassVar[str]  # of the files of its results
    settings: ClassVar[tuple[str, ...]]  # of reldrop.evaluate, those that its results depend on
    compared: ClassVar[bool] = False  # whether several runs are compared

    def conditions(self, options: Options) -> dict[str, Any]:
        """Return what the figures depend on, apart from the settings and the network."""
        return {}

    def evaluate(self, subject: Subject, options: Options) -> Result:
        """Measure a network.

        Raises:
            ReldropError: it is none for this suite, or its data cannot be read.
        """
        raise NotImplementedError


def run_subjects(paths: Sequence[Path], checkpoint: str = "last", config: Path | None = None) -> Iterator[Subject]:
    """Yield the networks of runs, one after another; of several, those without a checkpoint are named in warnings.

    Raises:
        UnreadableRun: a file of the only run is missing or damaged.
    """
    for path in paths:
        try:
            yield Subject.from_run(path, checkpoint, config)
        except UnreadableRun as error:  # of a sweep that is still going on
            if len(paths) == 1:
                raise
            logger.warning("left out: %s", error)


def _digest(name: str, file: Path | None) -> dict[str, Any]:
    found = file is not None and file.is_file()
    return {"subject": name, "weights": hashlib.sha256(file.read_bytes()).hexdigest()[:16] if found else None}

"""What the suites have in common: what is evaluated, how, and what comes of it."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from omegaconf import DictConfig
from torch import Tensor

from reldrop.attribution import Attribution
from reldrop.data import Data
from reldrop.runs.identity import identity, run_hash
from reldrop.runs.reader import Checkpoint, UnreadableRun, read_checkpoint

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Subject:
    """A network that is evaluated: that of a run, or one of timm.

    Attributes:
        name: in reports.
        folder: where results are written.
        label: says in evaluation files which network it is.
        checkpoint: of the run.
        model: the name of timm's network.
        weights: a file for the latter; None for timm's own.
    """

    name: str
    folder: Path
    label: dict[str, Any]
    checkpoint: Checkpoint | None = None
    model: str | None = None
    weights: Path | None = None

    @classmethod
    def from_run(cls, path: Path, checkpoint: str = "last", config: Path | None = None) -> Self:
        """Return the network of a run.

        Args:
            path, checkpoint, config: see `read_checkpoint`.

        Raises:
            UnreadableRun: a file is missing or damaged.
        """
        found = read_checkpoint(path, checkpoint, config)
        cfg = found.cfg
        label = {
            "subject": found.name,
            "weights": _digest(found.file),
            "experiment": cfg.name,
            "dataset": cfg.dataset.name,
            "backbone": cfg.backbone.name,
            "augmentation": cfg.augmentation.name,
            "seed": cfg.seed,
            "setting": run_hash({key: value for key, value in identity(cfg).items() if key != "seed"}),
        }
        return cls(found.name, found.file.parent, label, found)

    @classmethod
    def from_timm(cls, model: str, weights: Path | None, folder: Path) -> Self:
        """Return a network of timm, with its weights or those of a file."""
        name = model if weights is None else f"{model}, weights of {weights.name}"
        digest = _digest(weights) if weights is not None and weights.is_file() else None
        return cls(name, folder, {"subject": name, "weights": digest}, model=model, weights=weights)


@dataclass
class Options:
    """How a suite evaluates.

    Attributes:
        fabric: the device and the precision.
        attribution: where relevance comes from.
        data_dir: folder of the data sets; None for the one that a run had.
        limit: samples of a data set; None for all.
        batch_size: inputs that a network is shown at once.
        preprocessing: of ImageNet, "standard" or "own".
        workers: processes that decode images.
        progress: whether to show a bar, on a terminal.
    """

    fabric: "Fabric"
    attribution: Attribution
    data_dir: Path | None = None
    limit: int | None = None
    batch_size: int = 256
    preprocessing: str = "standard"
    workers: int = 0
    progress: bool = True
    _read: tuple[DictConfig, Data] | None = field(default=None, init=False)

    def data(self, checkpoint: Checkpoint) -> Data:
        """Return the data of a run, on the device; they are read once for runs in succession on the same."""
        if self._read is None or self._read[0] != checkpoint.cfg.dataset:
            data = checkpoint.data(None if self.data_dir is None else str(self.data_dir))
            self._read = checkpoint.cfg.dataset, data.to(self.fabric.device)
        return self._read[1]


@dataclass(frozen=True)
class Result:
    """What a suite found.

    Attributes:
        figures: nested, as they are written to a JSON file.
        samples: what was measured of each sample, key -> (N, ...).
        pictured: what `reldrop.plotting.examples.checkpoint_figure` needs to draw examples; empty for no pictures.
    """

    figures: dict[str, Any]
    samples: dict[str, Tensor]
    pictured: dict[str, Any] = field(default_factory=dict)


class Suite(Protocol):
    """Measures networks.

    Attributes:
        name: of the files of its results.
        settings: those of `reldrop.evaluate` that its results depend on.
        compared: whether several runs are compared.
    """

    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    compared: ClassVar[bool]

    def conditions(self, options: Options) -> dict[str, Any]:
        """Return what the figures depend on, apart from the settings and the network."""
        ...

    def evaluate(self, subject: Subject, options: Options) -> Result:
        """Measure a network.

        Raises:
            ReldropError: it is none for this suite, or its data cannot be read.
        """
        ...


def run_subjects(paths: Sequence[Path], checkpoint: str = "last", config: Path | None = None) -> Iterator[Subject]:
    """Yield the networks of runs, one after another; of several, those without a checkpoint are named in warnings.

    Args:
        paths: run folders or checkpoint files.
        checkpoint, config: see `read_checkpoint`.

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


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]

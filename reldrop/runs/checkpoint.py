"""Checkpoints: how they are written and read, and the networks and data that go with them."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from reldrop.config import build
from reldrop.runs.reader import RunFolder, UnreadableRun, read_config
from reldrop.runs.trust import check_parts
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import atomic_write, read

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reldrop.data import Data

KEPT = "epoch*.pt"  # checkpoints of earlier epochs
MOST_KEPT = 4  # of these are shown
MARK = b"sha256:"  # at the end of a file, before the checksum of all that precedes; PyTorch reads over both


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a run at some time.

    Attributes:
        file: where they are stored.
        cfg: the configuration of the run.
        weights: state dict, on the CPU.
        epoch: finished epochs.
    """

    file: Path
    cfg: DictConfig
    weights: dict[str, "Tensor"]
    epoch: int

    @property
    def run(self) -> str:
        """The run in words: experiment/augmentation/seed-hash."""
        return RunFolder(self.file.parent).label

    @property
    def name(self) -> str:
        """The checkpoint in words."""
        return f"{self.run}, {self.file.stem} checkpoint, {self.epoch} epochs"

    def data(self, data_dir: str | None = None) -> "Data":
        """Read the data of the run, from `data_dir` instead of where the run had them, unless it is None."""
        cfg = self.cfg if data_dir is None else OmegaConf.merge(self.cfg, {"data_dir": data_dir})
        return build(cfg, "dataset")

    def network(self, **options: Any) -> "nn.Module":
        """Return the network in evaluation mode.

        Args:
            options: what a backbone is told about the data, see `Data.model_kwargs`.

        Raises:
            ReldropError: the weights do not fit the configuration, or the number of classes of the data.
        """
        model = build(self.cfg, "backbone", **options, weights=None)
        classifier = getattr(model, "get_classifier", lambda: None)()  # not every network says which it is
        head = next((name for name, module in model.named_modules() if module is classifier), None)
        classes = len(self.weights.get(f"{head}.weight", ()))
        if head is not None and classes != options["num_classes"]:
            raise ReldropError(
                f"checkpoint {self.file} is of a network for {classes} classes, the data have {options['num_classes']}"
            )
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split()).partition("Error(s) in loading state_dict for ")[2]
            raise ReldropError(
                f"checkpoint {self.file} does not fit backbone {self.cfg.backbone.name} of its configuration ({reason[:200]})"
            ) from error
        return model.eval()


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint with its checksum; until it is complete, an earlier one of that name stays.

    Raises:
        OSError: it cannot be written.
    """
    import torch  # takes a second

    buffer = io.BytesIO()  # written to a file, torch turns errors of the disk into others
    torch.save(state, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
        file.write(MARK + hashlib.sha256(buffer.getbuffer()).digest())


def load_state(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, with its tensors on the CPU.

    Raises:
        ValueError: it is not what was written. Other errors of a damaged file are those of PyTorch.
    """
    import torch  # takes a second

    data = path.read_bytes()
    content, mark, checksum = data[:-39], data[-39:-32], data[-32:]
    if mark != MARK:  # of an earlier version
        content = data
    elif hashlib.sha256(content).digest() != checksum:
        raise ValueError("its checksum is wrong")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def read_checkpoint(path: Path, name: str = "last", config: Path | None = None) -> Checkpoint:
    """Read a checkpoint of a run.

    Args:
        path: a run folder, or a checkpoint file.
        name: which checkpoint of a folder, e.g. last or best.
        config: the configuration of the run; None for config.yaml beside the checkpoint.

    Raises:
        UnreadableRun: a file is missing or damaged.
        ReldropError: the configuration names parts that this package has not, see `reldrop.runs.trust`.
    """
    file = path if path.is_file() else path / f"{name}.pt"
    config = config or file.parent / "config.yaml"
    if missing := [needed.name for needed in (config, file) if not needed.is_file()]:
        raise UnreadableRun(f"{path} is no run folder with a checkpoint ({', '.join(missing)} not found)")
    cfg = read_config(config)
    check_parts(cfg, config)

    def load(path: Path) -> Checkpoint:
        state = load_state(path)
        return Checkpoint(path, cfg, state["model"], state["epoch"])

    return read(file, load, "let the run write it again", UnreadableRun)


def kept(checkpoint: Checkpoint) -> list[Checkpoint]:
    """Return checkpoints of earlier epochs of a run, if it kept such, up to `MOST_KEPT`, evenly over the training."""
    files = sorted(file for file in checkpoint.file.parent.glob(KEPT) if file != checkpoint.file)
    step = -(-len(files) // MOST_KEPT) or 1
    earlier = (read_checkpoint(file) for file in files[::step])
    return [other for other in earlier if other.epoch < checkpoint.epoch]

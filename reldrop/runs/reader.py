"""What a run has learned: its checkpoint, its network and its data, read back from the run folder."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from reldrop.config import build
from reldrop.data import Data
from reldrop.utils.errors import ReldropError, first_line

KEPT = "epoch*.pt"  # what trainer.keep_every leaves
MOST_KEPT = 4  # of these are shown


class UnreadableRun(ReldropError):
    """A run has no checkpoint, or a file that cannot be read; others may be fine."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a run at some time.

    Attributes:
        file: where they lie.
        cfg: the configuration of the run.
        weights: state dict, on the CPU.
        epoch: finished epochs.
    """

    file: Path
    cfg: DictConfig
    weights: dict[str, Tensor]
    epoch: int

    @property
    def run(self) -> str:
        """The run in words: experiment/augmentation/seed-hash."""
        return "/".join(self.file.resolve().parts[-4:-1])

    @property
    def name(self) -> str:
        """The checkpoint in words."""
        return f"{self.run}, {self.file.stem} checkpoint, {self.epoch} epochs"

    def data(self, data_dir: str | None = None) -> Data:
        """Read the data of the run, from `data_dir` instead of where the run had them, unless it is None."""
        cfg = self.cfg
        if data_dir is not None:
            moved = {
                key: data_dir + value.removeprefix(str(cfg.data_dir))
                for key, value in cfg.dataset.items()
                if isinstance(value, str)
                and Path(value).is_relative_to(str(cfg.data_dir))
                and key in ("root", "cache_dir")
            }
            cfg = OmegaConf.merge(cfg, {"dataset": moved})
        return build(cfg, "dataset")

    def network(self, **options: Any) -> nn.Module:
        """Return the network in evaluation mode.

        Args:
            options: what a backbone is told about the data, see `Data.model_kwargs`.

        Raises:
            ReldropError: the weights do not fit the configuration, or the number of classes of the data.
        """
        model = build(self.cfg, "backbone", **options, weights=None)
        head = next(name for name, module in model.named_modules() if module is model.get_classifier())
        classes = len(self.weights.get(f"{head}.weight", ()))
        if classes != options["num_classes"]:
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


def read_checkpoint(path: Path, name: str = "last", config: Path | None = None) -> Checkpoint:
    """Read a checkpoint of a run.

    Args:
        path: a run folder, or a checkpoint file.
        name: which checkpoint of a folder, e.g. last or best.
        config: the configuration of the run; None for config.yaml beside the checkpoint.

    Raises:
        UnreadableRun: a file is missing or damaged.
    """
    file = path if path.is_file() else path / f"{name}.pt"
    config = config or file.parent / "config.yaml"
    if missing := [str(needed.name) for needed in (config, file) if not needed.is_file()]:
        raise UnreadableRun(f"{path} is no run folder with a checkpoint ({', '.join(missing)} not found)")
    try:
        cfg = OmegaConf.load(config)
        parts = {"dataset", "backbone", "augmentation"} & set(cfg)
    except Exception as error:  # of YAML, or of what is no mapping
        raise UnreadableRun(f"{config} cannot be read ({first_line(error)})") from error
    if len(parts) < 3:
        raise UnreadableRun(f"{config} is no configuration of a run; it must have dataset, backbone and augmentation")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return Checkpoint(file, cfg, state["model"], state["epoch"])
    except Exception as error:  # depending on which bytes are wrong, almost any
        raise UnreadableRun(f"checkpoint {file} is damaged ({first_line(error)}); let the run write it anew") from error


def kept(checkpoint: Checkpoint) -> list[Checkpoint]:
    """Return checkpoints of earlier epochs of a run, if it kept such, up to `MOST_KEPT`, evenly over the training."""
    files = sorted(file for file in checkpoint.file.parent.glob(KEPT) if file != checkpoint.file)
    step = -(-len(files) // MOST_KEPT) or 1
    earlier = (read_checkpoint(file) for file in files[::step])
    return [other for other in earlier if other.epoch < checkpoint.epoch]


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Return what paths or glob patterns lead to, run folders or checkpoint files, each once and sorted.

    Raises:
        ReldropError: one of them leads to nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [Path(match) for match in glob.glob(str(Path(pattern).expanduser()))]
        # Files beside run folders may match as well; a pattern for checkpoint files matches nothing else.
        folders = [match for match in matches if match.is_dir()]
        if not matches:
            raise ReldropError(
                f"run={pattern} leads to no folder; it must be a run folder, a pattern of such, or a checkpoint file"
            )
        found.update(folders or matches)
    return sorted(found)

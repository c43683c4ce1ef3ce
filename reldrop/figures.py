"""Draw what is relevant in some test inputs and what gets occluded: python -m reldrop.figures run=FOLDER [output=FILE]."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from reldrop.command import run_command
from reldrop.config import build, check
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import writing
from reldrop.utils.types import Count, Group, Text

SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Settings:
    """What is drawn; see conf/figures.yaml for what each means."""

    run: Text
    checkpoint: Literal["last", "best"]
    data_dir: Text | None
    samples: Count
    output: Text | None
    machine: Group


def draw(cfg: DictConfig) -> Path:
    """Draw the figure of a run, with the attribution that it was trained with, and return its file.

    Raises:
        ReldropError: the folder holds no run with a checkpoint, or the file cannot be written.
    """
    check(cfg, Settings, groups=("machine",))
    output = None if cfg.output is None else Path(str(cfg.output)).expanduser()
    if output is not None and output.suffix not in SUFFIXES:
        raise ReldropError(f"output={cfg.output} must end with {' or '.join(SUFFIXES)}")
    from reldrop.plotting.examples import checkpoint_figure  # torch and matplotlib take seconds
    from reldrop.runs.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(Path(str(cfg.run)).expanduser(), cfg.checkpoint)
    data = checkpoint.data(None if cfg.data_dir is None else str(cfg.data_dir))
    model = checkpoint.network(**data.model_kwargs)
    figure = checkpoint_figure(checkpoint, data, model, build(checkpoint.cfg, "attribution"), count=cfg.samples)
    output = output or checkpoint.file.parent / "examples.png"
    with writing(str(output), "set output=FILE to another one"):
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output)
    return output


def command() -> None:
    run_command(lambda cfg: print(draw(cfg)), "figures", "no figure is written")


if __name__ == "__main__":
    command()

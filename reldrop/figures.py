"""Draw what is relevant in some test inputs and what gets occluded: python -m reldrop.figures run=FOLDER [output=FILE]."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import hydra
from omegaconf import DictConfig

from reldrop.config import CONFIG_PATH, build, check, find_own_parts, suggest
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
    from reldrop.runs.reader import read_checkpoint

    checkpoint = read_checkpoint(Path(str(cfg.run)).expanduser(), cfg.checkpoint)
    data = checkpoint.data(None if cfg.data_dir is None else str(cfg.data_dir))
    model = checkpoint.network(**data.model_kwargs)
    figure = checkpoint_figure(checkpoint, data, model, build(checkpoint.cfg, "attribution"), count=cfg.samples)
    output = output or checkpoint.file.parent / "examples.png"
    with writing(str(output), "set output=FILE to another one"):
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output)
    return output


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="figures")
def main(cfg: DictConfig) -> None:
    try:
        print(draw(cfg))
    except ReldropError as error:
        sys.exit(f"error: {error}")


def command() -> None:
    """Run `main`, and help with misspelled settings."""
    try:
        sys.argv[1:] = find_own_parts(sys.argv[1:])
        main()
    except ReldropError as error:
        sys.exit(f"error: {error}")
    except SystemExit as stop:
        hint = suggest(sys.argv[1:], CONFIG_PATH, "figures", ("machine",)) if stop.code == 1 else None
        sys.exit(hint or stop.code)


if __name__ == "__main__":
    command()

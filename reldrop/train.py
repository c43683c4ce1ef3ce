"""Train a network: python -m reldrop.train +experiment=cifar_resnet augmentation=reldrop_block seed=0."""

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reldrop.command import run_command
from reldrop.config import check_inputs, check_keys, check_scale
from reldrop.distributed.launch import disconnect
from reldrop.sweeps.outcomes import report
from reldrop.sweeps.sweep import register
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import absolute

# What trains is imported where it is used: a mistake in the configuration is to be named before torch is imported.
if TYPE_CHECKING:
    from reldrop.training.hooks import Hook
    from reldrop.training.trainer import Trainer


def train(cfg: DictConfig, overrides: Sequence[str] | None = None, hooks: Sequence["Hook"] = ()) -> dict[str, Any]:
    """Train the run that `cfg` describes, or go on with it, and return its summary.

    Args:
        cfg: the composed configuration.
        overrides: what it was composed with, for the run folder; None if that is not known.
        hooks: further ones, see `reldrop.training.hooks.Hook`.

    Raises:
        ReldropError: for anything that the user can correct.
    """
    check(cfg)
    from reldrop.training import run

    draw = partial(_pictures, cfg)
    measured = [*_measurements(cfg), *hooks]
    if not cfg.trainer.fast_dev_run:
        return run.train(cfg, overrides, measured, draw)
    with tempfile.TemporaryDirectory() as folder:  # thrown away
        once = OmegaConf.merge(cfg, {"results_dir": folder, "tracking": {"mode": "disabled"}})
        return run.train(once, overrides, measured, draw)


def check(cfg: DictConfig) -> None:
    """Refuse what is wrong with the configuration of a run, before any work starts.

    Raises:
        ReldropError: naming the mistake.
    """
    check_keys(cfg)
    check_scale(cfg)
    check_inputs(cfg)
    from reldrop.training.run import check_parts

    check_parts(cfg)


def _measurements(cfg: DictConfig) -> list["Hook"]:
    """What is measured while training goes on."""
    from reldrop.evaluation.guidance_gain import GuidanceGain
    from reldrop.evaluation.robustness import QuickOcclusion

    monitor, hooks = cfg.monitor, []
    few = 4 if cfg.trainer.fast_dev_run else None
    if monitor.occlusion_every_epochs is not None:
        hooks.append(QuickOcclusion(monitor.occlusion_every_epochs, few or monitor.occlusion_samples))
    if monitor.guidance_samples is not None:
        hooks.append(GuidanceGain(few or monitor.guidance_samples))
    return hooks


def _pictures(cfg: DictConfig, trainer: "Trainer") -> dict[str, Any]:
    from reldrop.plotting.tracked import pictures  # matplotlib takes a while

    return pictures(trainer, cfg.augmentation.name)


def main(cfg: DictConfig) -> float:
    overrides = HydraConfig.get().overrides.task
    if cfg.run is not None:
        from reldrop.runs.run import load_prepared

        if not isinstance(cfg.run, str):
            raise ReldropError(f"run={cfg.run} must be the folder of one run")
        own = [override for override in overrides if not override.startswith("run=")]
        cfg, overrides = load_prepared(absolute(cfg.run), own), None
    return train(cfg, overrides)["test/top1"]


def command() -> None:
    register(train, check)
    run_command(main, "train", "the same command goes on from the last checkpoint")
    disconnect()
    sys.exit(report())


if __name__ == "__main__":
    command()

"""Train a network: python -m reldrop.train +experiment=cifar_resnet augmentation=reldrop_block seed=0."""

import io
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reldrop.config import CONFIG_PATH, check_choices, check_inputs, check_keys, check_scale, find_own_parts, suggest
from reldrop.distributed.launch import abort, disconnect, launched
from reldrop.sweeps.hydra_launcher import register
from reldrop.sweeps.outcomes import report
from reldrop.utils.errors import ReldropError

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

    return run.train(cfg, overrides, [*_measurements(cfg), *hooks], _examples)


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
    if cfg.monitor.occlusion_every_epochs is None:
        return []
    from reldrop.evaluation.robustness import QuickOcclusion

    return [QuickOcclusion(cfg.monitor.occlusion_every_epochs, cfg.monitor.occlusion_samples)]


def _examples(trainer: "Trainer") -> Any:
    from reldrop.plotting.examples import occlusion_figure

    return occlusion_figure(trainer.module, trainer.data, trainer.attribution, {"occluded": trainer.augmentation})


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="train")
def main(cfg: DictConfig) -> float:
    sys.stderr = sys.__stderr__ if launched().rank else sys.stderr
    overrides = HydraConfig.get().overrides.task
    try:
        if cfg.run is not None:
            from reldrop.runs.run import load_prepared

            own = [override for override in overrides if not override.startswith("run=")]
            cfg, overrides = load_prepared(Path(cfg.run), own), None
        return train(cfg, overrides)["test_top1"]
    except ReldropError as error:
        abort(f"error: {error}")
    except KeyboardInterrupt:
        abort("interrupted; the same command goes on from the last checkpoint")
    except Exception:
        if launched().processes == 1:
            raise
        abort(traceback.format_exc(), known=False)


def command() -> None:
    """Run `main`, and help with misspelt settings."""
    register(train, check)
    if launched().rank:
        sys.stderr = io.StringIO()  # Hydra's messages come before `main`, in all processes alike
    try:
        sys.argv[1:] = find_own_parts(sys.argv[1:])
        check_choices(sys.argv[1:])
        main()
        disconnect()
    except ReldropError as error:
        abort(f"error: {error}")
    except SystemExit as stop:
        hint = suggest(sys.argv[1:], CONFIG_PATH) if stop.code == 1 else None
        if stop.code == 1:
            abort(hint or "")
        sys.exit(stop.code)
    sys.exit(report())


if __name__ == "__main__":
    command()

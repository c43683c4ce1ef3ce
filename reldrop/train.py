"""Train a network: python -m reldrop.train +experiment=cifar_resnet augmentation=reldrop_block seed=0."""

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from reldrop.config import CONFIG_PATH, build, check_inputs, check_keys, check_scale, suggest
from reldrop.data import Data
from reldrop.distributed.launch import disconnect, is_distributed, launched, should_report, start_fabric
from reldrop.runs.reader import summary_of
from reldrop.runs.run import NullRun, Run
from reldrop.runs.tracking import Tracker, start_tracking
from reldrop.sweeps.hydra_launcher import register
from reldrop.sweeps.sweep import report
from reldrop.training.config import TrainerConfig
from reldrop.training.trainer import Trainer
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("reldrop")


def train(cfg: DictConfig, overrides: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the run that `cfg` describes, or go on with it, and return its summary.

    Args:
        cfg: the composed configuration.
        overrides: what it was composed with, for the run folder; None if that is not known.

    Raises:
        ReldropError: for anything the user can mend.
    """
    check(cfg)
    config = TrainerConfig(**OmegaConf.to_container(cfg.trainer, resolve=True))
    fabric = start_fabric(config.accelerator, config.precision, config.batch_size)
    first = fabric.is_global_zero
    with Run(cfg, overrides) if first else NullRun(cfg) as run, _speaking(first):
        summary = fabric.broadcast(run.summary() if run.finished else None)
        if summary is not None:
            logger.info("%s is finished (force=true starts over): %s", run.path, _in_words(summary))
            return summary
        logger.info("run folder %s", run.path)
        with fabric.rank_zero_first():  # what it downloads or prepares, the others find
            data = build(cfg, "dataset")
        loop = build_trainer(cfg, config, fabric, data, run)
        if loop.resume():
            logger.info("resuming after %d epochs and %d batches", loop.epoch, loop.batch)
        settings = OmegaConf.to_container(cfg, resolve=True)
        name = run.path.name
        tracker = start_tracking(cfg.tracking, run=run, config=settings, name=name) if first else Tracker()
        failed = 1
        try:
            loop.train(lambda record: _report(record, config, tracker, data.unit))
            if first:
                summary = summarize(run, data)
                if cfg.tracking.mode != "disabled":
                    tracker.log_image("examples", _examples(loop), loop.epoch)
                run.finish(summary)
            failed = 0
        finally:
            tracker.finish(failed)
        summary = fabric.broadcast(summary)
        logger.info("finished: %s", _in_words(summary))
        return summary


def build_trainer(cfg: DictConfig, config: TrainerConfig, fabric: "Fabric", data: Data, run: Run | NullRun) -> Trainer:
    """Put the parts of a run together, with weights that depend on the seed only."""
    torch.manual_seed(derive_seed(cfg.seed, "weights"))
    model = build(cfg, "backbone", **data.model_kwargs)
    attribution = build(cfg, "attribution")
    augmentation = build_augmentation(cfg, data.augmentation_kwargs)
    if augmentation.needs_relevance:
        attribution.check(model, data.dummy_input())
    optimizer = build(cfg, "optimizer", model.parameters())
    steps = data.steps_per_epoch(config.batch_size)
    scheduler = build(cfg, "scheduler", optimizer, epochs=config.epochs, steps_per_epoch=steps)
    return Trainer(fabric, model, data, augmentation, attribution, optimizer, scheduler, run, config, cfg.seed)


def build_augmentation(cfg: DictConfig, options: dict[str, Any]) -> Any:
    """Return the augmentation; those that fill are told what they need to know of the data, see `Data`."""
    return build(cfg, "augmentation", **(options if "fill" in cfg.augmentation else {}))


def check(cfg: DictConfig) -> None:
    """Refuse what is wrong with the configuration of a run, before any work starts.

    Raises:
        ReldropError: naming the mistake.
    """
    check_keys(cfg)
    check_scale(cfg)
    check_inputs(cfg)
    check_parts(cfg)


def check_parts(cfg: DictConfig) -> None:
    """Build once, for nothing, what needs no data: its mistakes then show before the data are read."""
    build(cfg, "attribution")
    on_images = getattr(get_object(cfg.augmentation["_target_"]), "kind", None) == "images"
    build_augmentation(cfg, {"normalization": ((0.0,), (1.0,))} if on_images else {})
    optimizer = build(cfg, "optimizer", [torch.nn.Parameter(torch.zeros(1))])
    build(cfg, "scheduler", optimizer, epochs=1, steps_per_epoch=1)


def summarize(run: Run, data: Data) -> dict[str, Any]:
    """Return last and best accuracies, side by side, and what they were measured on."""
    return {
        **summary_of(run.history()),
        "dataset": data.name,
        "source": data.source,
        "train_samples": len(data.train),
        "test_samples": len(data.test),
    }


@contextmanager
def _speaking(first: bool) -> Iterator[None]:
    """Leave what all processes would log alike to the first one; warnings may be of one process alone."""
    level = logger.level
    if not first:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _report(record: dict[str, Any], config: TrainerConfig, tracker: Any, item: str) -> None:
    tracker.log(record)
    logger.info(
        "epoch %d/%d  loss %.4f  train %.2f %%  test %.2f %%  lr %.2g  %.3g %ss/s  attribution %.0f %%",
        record["epoch"],
        config.epochs,
        record["train_loss"],
        100 * record["train_top1"],
        100 * record["test_top1"],
        record["lr"],
        record["samples_per_second"],
        item,
        100 * record["attribution_share"],
    )


def _examples(loop: Trainer) -> Any:
    from reldrop.plotting.examples import occlusion_figure

    return occlusion_figure(loop.module, loop.data, loop.attribution, {"occluded": loop.augmentation})


def _in_words(summary: dict[str, Any]) -> str:
    shown = {"test accuracy": "test_top1", "mean class accuracy": "test_class_mean"}
    parts = (f"{name} {summary[key]:.2%} (best {summary[f'best_{key}']:.2%})" for name, key in shown.items())
    return ", ".join(parts)


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="train")
def main(cfg: DictConfig) -> float:
    if launched().rank:
        sys.stderr = sys.__stderr__
    try:
        return train(cfg, HydraConfig.get().overrides.task)["test_top1"]
    except ReldropError as error:
        abort(f"error: {error}")
    except KeyboardInterrupt:
        abort("interrupted; the same command goes on from the last checkpoint")
    except Exception:
        if not is_distributed():
            raise
        abort(traceback.format_exc())


def abort(message: str) -> NoReturn:
    """End the command with code 1, or this process, and with it the others; one of them says why."""
    if not is_distributed():
        sys.exit(message if should_report() else 1)
    if should_report():
        sys.stdout.flush()
        print(message, file=sys.stderr, flush=True)
    os._exit(1)  # a process that winds up might wait for others, which wait for it


def command() -> None:
    """Run `main`, and help with misspelt settings."""
    register()
    if launched().rank:
        sys.stderr = io.StringIO()  # Hydra's messages come before `main`, in all processes alike
    try:
        main()
        disconnect()
    except SystemExit as stop:
        hint = suggest(sys.argv[1:], CONFIG_PATH) if stop.code == 1 else None
        sys.exit(hint or stop.code)
    sys.exit(report())


if __name__ == "__main__":
    command()

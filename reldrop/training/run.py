"""A run from its configuration to its summary: puts the parts together, resumes, trains."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from reldrop.attribution import Attribution, Recycled
from reldrop.attribution.recycled import RelevanceCache
from reldrop.augmentation import Augmentation
from reldrop.config import build, kind_of_data, machine
from reldrop.data import Data
from reldrop.distributed.launch import start_fabric
from reldrop.metrics.registry import SPLITS
from reldrop.metrics.split import check_metrics, described
from reldrop.runs.pictures import Picture
from reldrop.runs.reader import summary_of
from reldrop.runs.run import NullRun, Run
from reldrop.runs.tracking import Tracker, start_tracking
from reldrop.training import hooks
from reldrop.training.config import MonitorConfig, TrainerConfig
from reldrop.training.contracts import (
    check_attribution,
    check_augmentation,
    check_backbone,
    check_kinds,
    naming,
    warn_of_relevance,
)
from reldrop.training.threads import fitting_threads
from reldrop.training.trainer import StepOutput, Trainer
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed
from reldrop.utils.signals import Signals
from reldrop.utils.tensors import to_host

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("reldrop")

Draw = Callable[[Trainer], Mapping[str, Picture]]


def train(
    cfg: DictConfig,
    overrides: Sequence[str] | None = None,
    own_hooks: Sequence[hooks.Hook] = (),
    draw: Draw | None = None,
) -> dict[str, Any]:
    """Train the run that `cfg` describes, or go on with it, and return its summary.

    Args:
        cfg: the composed configuration, checked.
        overrides: what it was composed with, for the run folder; None if that is not known.
        own_hooks: further hooks of the trainer, called before those that write checkpoints.
        draw: makes pictures of the network, by name, for those who track the run; given the trainer after an epoch.

    Raises:
        ReldropError: for anything that the user can correct.
    """
    config: TrainerConfig = build(cfg, "trainer")
    fabric = start_fabric(machine(cfg).accelerator, config.precision, config.batch_size)
    first = fabric.is_global_zero
    with Run(cfg, overrides) if first else NullRun(cfg) as run, _only_warnings(not first):
        summary = fabric.broadcast(run.summary() if run.finished else None)
        if summary is not None:
            logger.info("%s is finished (force=true starts over): %s", run.path, _in_words(summary))
            return summary
        logger.info("run folder %s", run.path)
        with fabric.rank_zero_first():  # what it downloads or prepares, the others find
            data = build(cfg, "dataset")
            check_kinds(dataset=(data, Data))
            data.to(fabric.device)
        monitor: MonitorConfig = build(cfg, "monitor")
        pictured = draw, monitor.pictures_every_epochs
        report, signals = Report(run, config.epochs, data.unit, monitor.log_every_steps, *pictured), Signals()
        trainer = build_trainer(cfg, config, fabric, data, run, signals, [*own_hooks, report])
        state = fabric.broadcast(run.load("last.pt"))
        run.rewind(*((state["epoch"], state["step"]) if state else (0, 0)))
        if state is not None:
            trainer.load_state_dict(state)
            logger.info("resuming after %d epochs and %d batches", trainer.epoch, trainer.batch)
        if first:
            settings = OmegaConf.to_container(cfg, resolve=True)
            report.tracker = start_tracking(cfg.tracking, run=run, config=settings, name=run.path.name)
        failed = 1
        try:
            named = {"backbone": trainer.module, "attribution": trainer.attribution}
            threads = fitting_threads(trainer.module, data.dummy_input(), config.batch_size)
            on_cpu = threads if fabric.device.type == "cpu" else nullcontext()
            with signals, on_cpu, naming(**named, augmentation=trainer.augmentation):
                trainer.fit()
            if first:
                sizes = {"train_samples": len(data.train), "test_samples": len(data.test)}
                history = run.history()
                own = described(trainer.metrics, [split for split in SPLITS if f"{split}/top1" in history[-1]])
                figures = {**summary_of(history), **{key: history[-1].get(key) for key in own}}
                summary = {
                    **figures,
                    **({"metrics": own} if own else {}),
                    "dataset": data.name,
                    "source": data.source,
                    **sizes,
                }
                report.tracker.keep(run.path)
                run.finish(summary)
            failed = 0
        finally:
            report.tracker.finish(failed)
        summary = fabric.broadcast(summary)
        logger.info("finished: %s", _in_words(summary))
        return summary


def build_trainer(
    cfg: DictConfig,
    config: TrainerConfig,
    fabric: "Fabric",
    data: Data,
    run: Run | NullRun,
    signals: Signals,
    own_hooks: Sequence[hooks.Hook] = (),
) -> Trainer:
    """Put the parts of a run together, with weights that depend on the seed only."""
    torch.manual_seed(derive_seed(cfg.seed, "weights"))
    model = build(cfg, "backbone", **data.model_kwargs)
    attribution = build(cfg, "attribution")
    augmentation = build(cfg, "augmentation", **data.augmentation_kwargs)
    kinds = {"backbone": (model, nn.Module), "attribution": (attribution, Attribution)}
    check_kinds(**kinds, augmentation=(augmentation, Augmentation))
    two = _two_like(data.dummy_input())
    _try_parts(model, attribution, augmentation, two, data.num_classes)
    if augmentation.needs_relevance and fabric.is_global_zero:
        warn_of_relevance(attribution, model, two)
    optimizer = build(cfg, "optimizer", model.parameters())
    steps = data.steps_per_epoch(config.batch_size)
    scheduler = build(cfg, "scheduler", optimizer, epochs=config.epochs, steps_per_epoch=steps)
    chosen: list[hooks.Hook] = []
    if config.eval_after_attribution:
        chosen.append(hooks.EvalAfterAttribution())
    if fabric.world_size > 1:
        chosen.append(hooks.SyncStatistics(model) if config.sync_batchnorm else hooks.AverageStatistics())
    if machine(cfg).progress and fabric.is_global_zero:
        chosen.append(hooks.Progress())
    monitor: MonitorConfig = build(cfg, "monitor")
    check_metrics(monitor.metrics, data.num_classes)
    selection = "test/top1" if data.validation is None else "validation/top1"
    checkpoints = hooks.Checkpoints(run, selection, monitor.checkpoint_every_steps, monitor.keep_every_epochs)
    chosen += [hooks.FiniteLoss(run.path), *own_hooks, checkpoints, hooks.StopOnSignals(signals, checkpoints)]
    cache = (
        relevance_cache(attribution, model, data, config, fabric.world_size) if augmentation.needs_relevance else None
    )
    parts = model, data, augmentation, attribution, optimizer, scheduler
    return Trainer(fabric, *parts, config, cfg.seed, chosen, cache, monitor.metrics)


def relevance_cache(
    attribution: Attribution, model: nn.Module, data: Data, config: TrainerConfig, processes: int
) -> RelevanceCache | None:
    """Return the cache of recycled relevance; None for another attribution.

    Raises:
        ReldropError: recycling does not go with other settings, or with the data.
    """
    if not isinstance(attribution, Recycled):
        return None
    unfit = {
        "trainer.compile": config.compile,
        "trainer.eval_after_attribution": config.eval_after_attribution,
        "several processes": processes > 1,
    }
    if names := " and ".join(name for name, given in unfit.items() if given):
        raise ReldropError(f"attribution=recycled does not go with {names}; take attribution=gradient")
    return attribution.cache(model, data)


_TRIED: set[str] = set()  # the parts of the runs of a sweep are often the same


def check_parts(cfg: DictConfig) -> None:
    """Build the parts and try them on noise, so that their mistakes show before the data are read.

    The network gets random weights. Where the configuration does not say how large images are, the trial waits for the data.
    """
    attribution = build(cfg, "attribution")
    optimizer = build(cfg, "optimizer", [nn.Parameter(torch.zeros(1))])
    build(cfg, "scheduler", optimizer, epochs=cfg.trainer.epochs, steps_per_epoch=1)
    classes, points = 10, kind_of_data(cfg) == "points"
    if points:
        channels, size = 6 if cfg.dataset.get("normals", True) else 3, cfg.dataset.get("points", 1024)
    else:
        channels, size = (
            1 if cfg.dataset.get("grayscale") else len(cfg.dataset.get("mean", "RGB")),
            cfg.dataset.get("size"),
        )
    normalization = None if points else ([0.0] * channels, [1.0] * channels)
    augmentation = build(cfg, "augmentation", num_classes=classes, normalization=normalization)
    check_kinds(attribution=(attribution, Attribution), augmentation=(augmentation, Augmentation))
    parts = OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, ["dataset", "backbone", "attribution", "augmentation"]))
    if size is None or parts in _TRIED:
        return
    _TRIED.add(parts)
    sample = torch.zeros(1, size, channels) if points else torch.zeros(1, channels, size, size)
    bare = OmegaConf.merge(cfg, {"backbone": {"weights": None}}) if "weights" in cfg.backbone else cfg
    with torch.random.fork_rng():
        model = build(bare, "backbone", num_classes=classes, channels=channels, size=size)
        check_kinds(backbone=(model, nn.Module))
        _try_parts(model, attribution, augmentation, _two_like(sample), classes)


def _two_like(sample: Tensor) -> Tensor:
    """Return a batch of two inputs: a sample with noise."""
    two = torch.cat([sample, sample])
    return two + torch.randn(two.shape, generator=torch.Generator().manual_seed(0))


def _try_parts(
    model: nn.Module, attribution: Attribution, augmentation: Augmentation, inputs: Tensor, num_classes: int
) -> None:
    """Refuse parts that break a promise on a batch of two."""
    check_backbone(model, inputs, num_classes)
    check_augmentation(augmentation, inputs, num_classes)
    if augmentation.needs_relevance:
        check_attribution(attribution, model, inputs, torch.arange(2) % num_classes)


class Report(hooks.Hook):
    """Reports each epoch to the console and to Weights & Biases, and some steps to the run folder and to Weights & Biases.

    A step's figures are copied from the device while later steps run, and read at the next record, checkpoint or evaluation.

    Args:
        run: the run folder; a `NullRun` in all processes but the first.
        epochs: of the run.
        unit: what a sample is called.
        every_steps: steps between those that are reported; None for none.
        draw: makes pictures.
        pictures_every: epochs between pictures; None for none.
    """

    def __init__(
        self,
        run: Run | NullRun,
        epochs: int,
        unit: str,
        every_steps: int | None,
        draw: Draw | None = None,
        pictures_every: int | None = None,
    ) -> None:
        self.run, self.epochs, self.unit, self.every_steps = run, epochs, unit, every_steps
        self.draw, self.pictures_every = draw, pictures_every
        self.tracker = Tracker()
        self._unread: tuple[dict[str, Any], dict[str, Callable[[], Tensor]]] | None = None

    def after_step(self, trainer: Trainer, output: StepOutput) -> None:
        if self.every_steps and trainer.step % self.every_steps == 0:
            self._read(trainer)
            known = {"epoch": trainer.epoch, "step": trainer.step, "step/lr": trainer.scheduler.get_last_lr()[0]}
            figures = {"step/loss": output.loss, "step/occluded_share": output.occluded_share}
            self._unread = known, {key: to_host(value) for key, value in figures.items()}

    def _read(self, trainer: Trainer) -> None:
        if self._unread is not None:
            (known, figures), self._unread = self._unread, None
            record = {**known, **{key: value().item() for key, value in figures.items()}}
            self.run.log_step(record)
            self.tracker.log(record)

    before_evaluation = before_checkpoint = _read

    def after_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.tracker.log(record, self._pictures(trainer))
        self.tracker.summarize(summary_of([*self.run.history(), record]))
        logger.info(
            "epoch %d/%d  loss %.4f  train %.2f %%  test %.2f %%  lr %.2g  %.3g %ss/s  attribution %.0f %%",
            record["epoch"],
            self.epochs,
            record["train/loss"],
            100 * record["train/top1"],
            100 * record["test/top1"],
            record["lr"],
            record["speed/samples_per_second"],
            self.unit,
            100 * record["attribution/share_of_time"],
        )

    def _pictures(self, trainer: Trainer) -> Mapping[str, Picture]:
        """Return pictures of the network after an epoch that has some; where they fail, one warning says so."""
        due = self.pictures_every and (trainer.epoch % self.pictures_every == 0 or trainer.finished)
        if not due or self.draw is None or not self.tracker:
            return {}
        try:
            return self.draw(trainer)
        except Exception as error:
            self.draw = None
            logger.warning("the run goes on without pictures: %s: %s", type(error).__name__, error)
            return {}


@contextmanager
def _only_warnings(quiet: bool) -> Iterator[None]:
    """Leave what all processes would log alike to the first one; warnings may be of one process alone."""
    level = logger.level
    if quiet:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _in_words(summary: dict[str, Any]) -> str:
    shown = {"test accuracy": "top1", "mean class accuracy": "class_mean"}
    parts = (
        f"{name} {summary[f'test/{key}']:.2%} (best {summary[f'test/best_{key}']:.2%})" for name, key in shown.items()
    )
    return ", ".join(parts)

"""Weights & Biases and TensorBoard as readers of the metrics log: they may fail, but no run fails, or waits for long, because
of them."""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from reldrop.metrics.registry import SECTIONS
from reldrop.runs.pictures import Cloud, Picture, to_wandb
from reldrop.runs.run import Run
from reldrop.utils.io import write_text_atomic
from reldrop.utils.nested import flatten
from reldrop.utils.types import Text, checked

INIT_SECONDS = 30.0  # to wait for the server, or for someone to answer the login prompt of a terminal
FINISH_SECONDS = 120.0  # to wait for uploads at the end of a run

# What W&B's own variables say wins over our settings: agents of its sweeps set them, and so may its users.
VARIABLES = {
    "mode": "WANDB_MODE",
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
    "job_type": "WANDB_JOB_TYPE",
    "name": "WANDB_NAME",
}

NONE: Mapping[str, Picture] = MappingProxyType({})

logger = logging.getLogger("reldrop")


@checked
@dataclass(frozen=True)
class TrackingConfig:
    """Settings of the group `tracking`; see conf/tracking/online.yaml."""

    mode: Literal["disabled", "online", "offline"]
    project: Text
    entity: Text | None
    group: Text | None
    tags: Sequence[Text]
    job_type: Text | None
    tensorboard: bool = False
    artifacts: Literal["none", "best", "last"] = "none"


class Tracker:
    """Passes on what a run measures; this one does nothing, as does any other after its first error."""

    def __bool__(self) -> bool:
        """Whether anybody looks at what is passed on."""
        return False

    def log(self, record: Mapping[str, Any], pictures: Mapping[str, Picture] = NONE) -> None:
        """Pass on a record of the metrics log or of the log of steps, with the pictures that belong to it."""

    def keep(self, folder: Path) -> None:
        """Pass on the checkpoint that was asked for, out of a run folder."""

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Show figures of the whole run so far."""

    def finish(self, exit_code: int = 0) -> None:
        """End; harmless when repeated."""


class Trackers(Tracker):
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers

    def __bool__(self) -> bool:
        return any(self.trackers)

    def log(self, record: Mapping[str, Any], pictures: Mapping[str, Picture] = NONE) -> None:
        for each in self.trackers:
            each.log(record, pictures)

    def keep(self, folder: Path) -> None:
        for each in self.trackers:
            each.keep(folder)

    def summarize(self, summary: Mapping[str, Any]) -> None:
        for each in self.trackers:
            each.summarize(summary)

    def finish(self, exit_code: int = 0) -> None:
        for each in self.trackers:
            each.finish(exit_code)


class TensorBoard(Tracker):
    """Writes records where TensorBoard finds them: those of an epoch over epochs, those of a step over steps.

    Args:
        folder: for its files; what is there already goes, since all records are written again at each start.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder))

    def __bool__(self) -> bool:
        return self._writer is not None

    def log(self, record: Mapping[str, Any], pictures: Mapping[str, Picture] = NONE) -> None:
        axis = "step" if any(key.startswith("step/") for key in record) else "epoch"
        for key, value in record.items():
            if key not in ("epoch", "step") and value is not None:
                self._attempt(lambda writer, *each: writer.add_scalar(*each), key, value, record[axis])
        for key, picture in pictures.items():
            if isinstance(picture, Cloud):
                points, colors = (values[None] for values in picture[:2])
                self._attempt(
                    lambda writer, *each: writer.add_mesh(*each), key, points, colors, None, None, record[axis]
                )
            elif hasattr(picture, "savefig"):
                self._attempt(lambda writer, *each: writer.add_figure(*each), key, picture, record[axis], False)

    def finish(self, exit_code: int = 0) -> None:
        self._attempt(lambda writer: writer.close())
        self._writer = None

    def _attempt(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._writer is not None:
            try:
                call(self._writer, *arguments)
            except Exception as error:
                self._writer = None
                _warn_of_tensorboard(error)


class WandB(Tracker):
    """Sends records to a W&B run.

    Args:
        run: what `wandb.init` returned.
        sent: the `position` of the last record that W&B already has.
        artifacts: which checkpoint to upload when the run is finished, "best", "last" or "none".
    """

    def __init__(self, run: Any, sent: int = -1, artifacts: str = "none") -> None:
        self._run = run
        self._sent = sent
        self._artifacts = artifacts

    def __bool__(self) -> bool:
        return self._run is not None

    def log(self, record: Mapping[str, Any], pictures: Mapping[str, Picture] = NONE) -> None:
        if (place := position(record)) > self._sent:

            def send(run: Any) -> None:
                shown = {key: to_wandb(picture) for key, picture in pictures.items()}
                # commit: W&B keeps the row at once, not when the next one comes, before which the run may be killed
                run.log({**record, **shown}, step=place, commit=True)

            self._attempt(send)

    def keep(self, folder: Path) -> None:
        if self._artifacts != "none":
            self._attempt(lambda run: run.log_artifact(str(folder / f"{self._artifacts}.pt"), type="model"))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        # W&B itself shows the last value of all that was logged.
        self._attempt(lambda run: run.summary.update(summary))

    def finish(self, exit_code: int = 0) -> None:
        """End the W&B run, so that the next run of this process begins its own; harmless when repeated."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                _warn(error)

    def _attempt(self, call: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:
            _warn(error)
            run, self._run = self._run, None
            with suppress(Exception):  # it has been reported
                run.finish(exit_code=1)


def position(record: Mapping[str, Any]) -> int:
    """Return the place of a record among all of a run, of epochs and of steps: W&B's own count of rows.

    Each step adds 1, and so does the end of an epoch; a record has the numbers of both that are finished.
    """
    return record["epoch"] + record["step"]


def start_tracking(tracking: Mapping[str, Any], *, run: Run, config: dict[str, Any], name: str) -> Tracker:
    """Begin or go on with what tracks the run of a run folder, and pass on what it lacks of the metrics log.

    Whatever goes wrong with W&B or TensorBoard becomes one warning and a tracker that does nothing.

    Args:
        tracking: the group of the configuration, see `TrackingConfig`.
        run: the run to track; W&B writes into its folder.
        config: the resolved configuration, to show with the run.
        name: the name to show for the run.

    Raises:
        ReldropError: for a setting of a wrong type, or an unknown mode.
    """
    settings = _settings(tracking)
    history = sorted([*run.history(), *run.steps()], key=position)
    trackers = []
    if settings.mode != "disabled":
        trackers.append(_start_wandb(settings, run, history, config, name))
    if settings.tensorboard:
        trackers.append(_start_tensorboard(run, history))
    return Trackers(trackers)


def _start_tensorboard(run: Run, history: Sequence[Mapping[str, Any]]) -> Tracker:
    try:
        tracker = TensorBoard(run.path / "tensorboard")
    except Exception as error:
        _warn_of_tensorboard(error)
        return Tracker()
    for record in history:
        tracker.log(record)
    return tracker


def _start_wandb(
    settings: TrackingConfig, run: Run, history: Sequence[Mapping[str, Any]], config: dict[str, Any], name: str
) -> Tracker:
    id_file = run.path / "wandb_id"
    stored = id_file.read_text().strip() if id_file.exists() else None
    run_id = os.environ.get("WANDB_RUN_ID") or stored or secrets.token_hex(4)
    is_new = run_id != stored
    if (
        "WANDB_SWEEP_ID" in os.environ
    ):  # W&B keeps to the words of its sweep, e.g. augmentation=none, for groups of ours
        groups = {key: value for key, value in config.items() if isinstance(value, Mapping)}
        config = {**config, **dict(flatten(groups))}
    try:
        wandb_run = _init(settings, run_id, folder=run.path, config=config, name=name)
        _declare_axes(wandb_run)
        write_text_atomic(id_file, run_id + "\n")
    except Exception as error:
        _warn(error)
        return Tracker()

    if settings.mode == "online":
        sent = wandb_run.starting_step - 1  # where the server says that the run goes on; 0 for one it does not know
    else:
        sent = -1 if is_new else max(map(position, history), default=-1)
    tracker = WandB(wandb_run, sent, settings.artifacts)
    for record in history:
        tracker.log(record)
    return tracker


def mirror(
    tracking: Mapping[str, Any], folder: Path, summary: Mapping[str, float], pictures: Mapping[str, Picture]
) -> None:
    """Add what was measured of a finished run to its W&B run, if it has one; whatever goes wrong becomes one warning.

    Args:
        tracking: the group of the run's configuration; without a mode, there is no such run.
        folder: of the run.
        summary: figures by name; they appear in the summary of the W&B run.
        pictures: by name.
    """
    id_file = folder / "wandb_id"
    if tracking.get("mode", "disabled") == "disabled" or not id_file.exists():
        return
    try:
        run = _init(_settings(tracking), id_file.read_text().strip(), folder=folder, config=None, name=folder.name)
        run.summary.update({f"evaluation/{key}": value for key, value in summary.items()})
        run.log({f"evaluation/{key}": to_wandb(picture) for key, picture in pictures.items()})
        run.finish()
    except Exception as error:
        _warn(error, "the evaluation is in the run folder only")


def _settings(tracking: Mapping[str, Any]) -> TrackingConfig:
    settings = TrackingConfig(**{key: value for key, value in tracking.items() if key not in ("_target_", "name")})
    mode = os.environ.get(VARIABLES["mode"])
    if settings.mode == "disabled" or mode not in ("disabled", "offline", "online"):
        return settings
    return replace(settings, mode=mode)


def _init(tracking: TrackingConfig, run_id: str, *, folder: Path, config: dict[str, Any] | None, name: str) -> Any:
    """Return a new W&B run of that id, or the earlier one to go on with."""
    import wandb

    # Prompts only in a terminal; without one, W&B raises an error of its own.
    if tracking.mode == "online" and not wandb.login(timeout=int(INIT_SECONDS)):
        raise RuntimeError("not logged in")
    settings: dict[str, Any] = {"console": "off", "init_timeout": INIT_SECONDS}
    if hasattr(wandb.Settings(), "finish_timeout"):  # older ones wait without limit
        settings["finish_timeout"] = FINISH_SECONDS
    ours = {key: getattr(tracking, key) for key in ("mode", "project", "entity", "group", "job_type")}
    ours |= {"tags": list(map(str, tracking.tags)), "name": name}
    return wandb.init(
        **{key: value for key, value in ours.items() if VARIABLES[key] not in os.environ},
        id=run_id,
        resume="allow",
        config=config,
        allow_val_change=True,  # a resumed run may use another machine, hence other paths and numbers of workers
        dir=str(folder),
        settings=wandb.Settings(**settings),
    )


def _declare_axes(run: Any) -> None:
    """Draw what is measured after an epoch over epochs, and what is measured after a step over steps."""
    for axis in ("epoch", "step"):
        run.define_metric(axis, hidden=True)
    for section in sorted(SECTIONS):
        run.define_metric(f"{section}/*", step_metric="step" if section == "step" else "epoch")
    for key in ("lr", "pictures/*"):
        run.define_metric(key, step_metric="epoch")


def _warn(error: Exception, outcome: str = "the run goes on untracked") -> None:
    if isinstance(error, ImportError):
        advice = "install it with `pip install wandb`, or use tracking=disabled"
    else:
        advice = "check `wandb login` and the connection, or use tracking=offline"
    cause = " ".join(f"{type(error).__name__}: {error}".split())  # some of their messages have several lines
    logger.warning("Weights & Biases failed (%s); %s: %s", cause, outcome, advice)


def _warn_of_tensorboard(error: Exception) -> None:
    if isinstance(error, ImportError):
        advice = "install it with `pip install tensorboard`, or leave out tracking.tensorboard"
    else:
        advice = "what it lacks is written when the run is started again"
    logger.warning("TensorBoard failed (%s: %s); the run goes on without it: %s", type(error).__name__, error, advice)

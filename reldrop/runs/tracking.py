"""Weights & Biases as a reader of the metrics log: it may fail, but no run fails, or waits for long, because of it."""

import io
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reldrop.metrics.registry import SECTIONS
from reldrop.runs.run import Run
from reldrop.utils.io import write_text_atomic
from reldrop.utils.types import Text, checked

INIT_SECONDS = 30.0  # to wait for the server, or for someone to answer the login prompt of a terminal
FINISH_SECONDS = 120.0  # to wait for uploads at the end of a run

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


class Tracker:
    """Sends records to a W&B run; after the first error, or without a run, it does nothing.

    Args:
        run: what `wandb.init` returned, or None.
        sent: the `position` of the last record that W&B already has.
    """

    def __init__(self, run: Any = None, sent: int = -1) -> None:
        self._run = run
        self._sent = sent

    def log(self, record: Mapping[str, Any]) -> None:
        """Send a record of the metrics log or of the log of steps."""
        self._send(record, lambda: dict(record))

    def log_image(self, key: str, image: Any, record: Mapping[str, Any]) -> None:
        """Send an image that belongs to a record: a matplotlib figure, or the path of an image file."""
        self._send(record, lambda: {"epoch": record["epoch"], key: _image(image)})

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Show figures of the whole run so far. W&B itself shows the last value of all that was logged."""
        self._attempt(lambda run: run.summary.update(summary))

    def finish(self, exit_code: int = 0) -> None:
        """End the W&B run, so that the next run of this process begins its own; harmless when repeated."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                _warn(error)

    def _send(self, record: Mapping[str, Any], values: Callable[[], dict[str, Any]]) -> None:
        if (place := position(record)) > self._sent:
            self._attempt(lambda run: run.log(values(), step=place))

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
    """Begin or go on with the W&B run that belongs to a run folder, and send it what it lacks of the metrics log.

    Whatever goes wrong with W&B becomes one warning and a tracker that does nothing.

    Args:
        tracking: the group of the configuration, see `TrackingConfig`.
        run: the run to track; W&B writes into its folder.
        config: the resolved configuration, to show with the run.
        name: the name to show for the run.

    Raises:
        ReldropError: for a setting of a wrong type, or an unknown mode.
    """
    settings = _settings(tracking)
    if settings.mode == "disabled":
        return Tracker()
    history = sorted([*run.history(), *run.steps()], key=position)
    id_file = run.path / "wandb_id"
    is_new = not id_file.exists()
    run_id = secrets.token_hex(4) if is_new else id_file.read_text().strip()
    try:
        wandb_run = _init(settings, run_id, folder=run.path, config=config, name=name)
        _declare_axes(wandb_run)
        write_text_atomic(id_file, run_id + "\n")
    except Exception as error:
        _warn(error)
        return Tracker()

    if settings.mode == "online":
        sent = wandb_run.step - 1  # where the server says that the run goes on; 0 for one that it does not know
    else:
        sent = -1 if is_new else max(map(position, history), default=-1)
    tracker = Tracker(wandb_run, sent)
    for record in history:
        tracker.log(record)
    return tracker


def mirror(tracking: Mapping[str, Any], folder: Path, summary: Mapping[str, float], images: Mapping[str, Path]) -> None:
    """Add what was measured of a finished run to its W&B run, if it has one; whatever goes wrong becomes one warning.

    Args:
        tracking: the group of the run's configuration; without a mode, there is no such run.
        folder: of the run.
        summary: figures by name; they appear in the summary of the W&B run.
        images: image files by name.
    """
    id_file = folder / "wandb_id"
    if tracking.get("mode", "disabled") == "disabled" or not id_file.exists():
        return
    try:
        run = _init(_settings(tracking), id_file.read_text().strip(), folder=folder, config=None, name=folder.name)
        run.summary.update({f"evaluation/{key}": value for key, value in summary.items()})
        run.log({f"evaluation/{key}": _image(path) for key, path in images.items()})
        run.finish()
    except Exception as error:
        _warn(error, "the evaluation is in the run folder only")


def _settings(tracking: Mapping[str, Any]) -> TrackingConfig:
    return TrackingConfig(**{key: value for key, value in tracking.items() if key not in ("_target_", "name")})


def _init(tracking: TrackingConfig, run_id: str, *, folder: Path, config: dict[str, Any] | None, name: str) -> Any:
    """Return a new W&B run of that id, or the earlier one to go on with."""
    import wandb

    # Prompts only in a terminal; without one, W&B raises an error of its own.
    if tracking.mode == "online" and not wandb.login(timeout=int(INIT_SECONDS)):
        raise RuntimeError("not logged in")
    settings: dict[str, Any] = {"console": "off", "init_timeout": INIT_SECONDS}
    if hasattr(wandb.Settings(), "finish_timeout"):  # older ones wait without limit
        settings["finish_timeout"] = FINISH_SECONDS
    return wandb.init(
        **{**vars(tracking), "tags": list(tracking.tags)},
        id=run_id,
        resume="allow",
        name=name,
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
    run.define_metric("lr", step_metric="epoch")


def _image(image: Any) -> Any:
    import PIL.Image
    import wandb

    if isinstance(image, str | Path):
        return wandb.Image(str(image))
    buffer = io.BytesIO()  # drawn here: W&B draws a figure itself only where pyplot has been imported
    image.savefig(buffer, format="png")
    return wandb.Image(PIL.Image.open(buffer))


def _warn(error: Exception, outcome: str = "the run goes on untracked") -> None:
    if isinstance(error, ImportError):
        advice = "install it with `pip install wandb`, or use tracking=disabled"
    else:
        advice = "check `wandb login` and the connection, or use tracking=offline"
    cause = " ".join(f"{type(error).__name__}: {error}".split())  # some of their messages have several lines
    logger.warning("Weights & Biases failed (%s); %s: %s", cause, outcome, advice)

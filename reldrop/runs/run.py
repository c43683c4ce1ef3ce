"""A training run on disk, as its process writes it.

Everything in a run folder is either appended line by line (`metrics.jsonl`) or replaced as a whole, so that a run
killed at any moment leaves a folder from which the same command goes on.
"""

import json
import logging
import os
import shutil
import socket
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from reldrop.config import resolved
from reldrop.runs.checkpoint import load_state, save_state
from reldrop.runs.environment import environment
from reldrop.runs.identity import IDENTITY_VERSION, check_names, run_folder
from reldrop.runs.reader import OVER, RunFolder, UnreadableRun
from reldrop.runs.trust import check_parts
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import atomic_write, finite, write_json_atomic, write_text_atomic, writing

LOCK_RETRY_SECONDS = 0.2  # within them, whoever only looks whether a run folder is held has released it

JOB_FILE = "job"  # in a run folder: the number of its job in the queue of SLURM

logger = logging.getLogger("reldrop")


class Run(RunFolder):
    """The folder of one training run, held by one process at a time; use it as a context manager.

    Opening creates the folder, locks it, clears it if `cfg.force` is set and, unless the run is already finished,
    writes configuration and environment. An exception that leaves the block is kept in the file FAILED.

    Args:
        cfg: the composed configuration, with name, seed, augmentation.name, data_dir, results_dir and perhaps force.
        overrides: what it was composed with; None for what `prepare` wrote to the folder.

    Raises:
        ReldropError: if the configuration does not resolve, the folder cannot be written, or another process holds it.
    """

    def __init__(self, cfg: DictConfig, overrides: Sequence[str] | None = None) -> None:
        super().__init__(run_folder(cfg))
        content = _content(cfg, overrides)
        with writing(f"to run folder {self.path}", "set results_dir to a folder that can be written"):
            self._lock = _lock(self.path)
            try:
                self._start(content, overrides, force=bool(cfg.get("force")))
                self._log_file = _LogFile(self.path / "train.log", delay=True)
            except BaseException:
                self._lock.release()
                raise
        if not self.finished:
            logging.getLogger().addHandler(self._log_file)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            trace = (type(error), error, error.__traceback__)
            self._log_file.handle(logging.LogRecord("reldrop", logging.ERROR, "", 0, "the run fails", (), trace))
        if not self.finished:
            _fail(self.path, error)
        self.close()

    def close(self) -> None:
        """Release the folder; harmless when repeated."""
        logging.getLogger().removeHandler(self._log_file)
        self._log_file.close()
        self._lock.release()

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the content of a checkpoint, with its tensors on the CPU; None if there is none of that name."""
        return self._read(name, load_state, f"delete it to go on without it, or {OVER}")

    def log(self, record: dict[str, Any]) -> None:
        """Append a record to the metrics log, durably; numbers that are not finite become null.

        Raises:
            ReldropError: it cannot be written; so also `log_step`, `rewind`, `save` and `finish`.
        """
        with self._writing("metrics.jsonl"), (self.path / "metrics.jsonl").open("ab") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def log_step(self, record: dict[str, Any]) -> None:
        """Append a record to the log of steps; it does not wait for the disk."""
        with self._writing("steps.jsonl"), (self.path / "steps.jsonl").open("ab") as file:
            file.write(_line(record))

    def rewind(self, epoch: int, step: int) -> None:
        """Drop the records behind `epoch` from the metrics log, and those behind `step` from the log of steps.

        For resuming: a checkpoint follows its records, so that a kill between the two leaves some too many.

        Raises:
            ReldropError: the log lacks an epoch up to this one.
        """
        kept = [record for record in self.history() if record["epoch"] <= epoch]
        if lacking := {*range(1, epoch + 1)} - {record["epoch"] for record in kept}:
            raise ReldropError(
                f"{self.path / 'metrics.jsonl'} has no record of epoch {min(lacking)}, but the checkpoint is of epoch {epoch}; "
                f"put the file back as it was, or {OVER}"
            )
        steps = [record for record in self.steps() if record["step"] <= step]
        for name, records in (("metrics.jsonl", kept), ("steps.jsonl", steps)):
            with self._writing(name), atomic_write(self.path / name) as file:
                file.writelines(map(_line, records))

    def save(self, state: dict[str, Any], name: str) -> None:
        """Write a checkpoint; until it is complete, an earlier one of that name stays."""
        with self._writing(name):
            save_state(state, self.path / name)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        with self._writing("summary.json"):
            write_json_atomic(self.path / "summary.json", {**summary, "identity_version": IDENTITY_VERSION})
            (self.path / "FAILED").unlink(missing_ok=True)

    def _writing(self, name: str) -> AbstractContextManager[None]:
        return writing(f"{name} to run folder {self.path}", "the same command goes on from the last checkpoint")

    def _start(self, config: str, overrides: Sequence[str] | None, force: bool) -> None:
        if force:
            _clear(self.path)
        if self.finished:
            return
        for leftover in (self.path / "FAILED", *self.path.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)
        self._trim()
        _write_config(self.path, config, overrides)
        try:
            earlier = self.environment()
        except UnreadableRun as error:
            logger.warning("%s: it is begun again, and what it said of earlier starts is lost", error)
            earlier = []
        write_json_atomic(self.path / "environment.json", {"starts": [*earlier, environment(self.overrides)]})

    def _trim(self) -> None:
        """Remove a line of a log that was cut off, lest the next record be glued to it."""
        for path in self.path.glob("*.jsonl"):
            whole = path.read_bytes().rpartition(b"\n")
            os.truncate(path, len(whole[0]) + len(whole[1]))


class NullRun:
    """Stands for a run in the processes that only compute: the first one alone holds, reads and writes the folder.

    An exception that leaves the block is kept in FAILED all the same, if it is the first one.
    """

    finished = False

    def __init__(self, cfg: DictConfig) -> None:
        self.path = run_folder(cfg)

    def __enter__(self) -> "NullRun":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        _fail(self.path, error)

    def log(self, *args: Any) -> None:
        """Do nothing: the first process does it, and passes on what it has read."""

    rewind = save = load = log_step = log

    def history(self) -> list[dict[str, Any]]:
        """Return no records."""
        return []


class _LogFile(logging.FileHandler):
    """Writes what is logged to the end of a file as well."""

    def format(self, record: logging.LogRecord) -> str:
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s").format(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a disk that is full is named where a checkpoint or a metric is written."""


def prepare(cfg: DictConfig, overrides: Sequence[str]) -> Path:
    """Create the folder of a run that is to be started later, with its configuration, and return it.

    A folder that has been started stays as it is, but is cleared if `cfg.force` is set: then its start goes on instead of
    clearing it again.

    Raises:
        ReldropError: if the folder cannot be written, or is to be cleared while another process holds it.
    """
    folder = RunFolder(run_folder(cfg))
    content, force = _content(cfg, overrides), bool(cfg.get("force"))
    if not force and folder.state != "waiting":
        return folder.path
    with writing(f"to run folder {folder.path}", "set results_dir to a folder that can be written"):
        lock = _lock(folder.path)
        try:
            if force:
                _clear(folder.path)
            if not (folder.path / "environment.json").exists():  # started in the meantime
                _write_config(folder.path, content, overrides)
        finally:
            lock.release()
    return folder.path


def discard(folder: Path) -> None:
    """Remove a prepared folder that has not been started, and the folders above it that are then empty."""
    if RunFolder(folder).state == "waiting":
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # other runs are there
            for parent in folder.parents[:3]:
                parent.rmdir()


def load_prepared(folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the configuration of a run folder, prepared or started, for training it, wherever the folder is now.

    Args:
        folder: of the run.
        overrides: KEY=VALUE of settings that its result does not depend on, e.g. machine.workers=2.

    Raises:
        ReldropError: if it has no configuration, the run of the configuration has another folder, or it names parts that this
            package has not, see `reldrop.runs.trust`.
    """
    cfg = RunFolder(folder).config
    check_parts(cfg, folder / "config.yaml")
    cfg.pop("identity_version", None)
    folder = folder.absolute()
    cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist(list(overrides)), {"results_dir": str(folder.parents[3])})
    if (own := run_folder(cfg)) != folder:
        raise ReldropError(
            f"run={folder} cannot be trained: by its configuration it is {own.name} of {cfg.name}/{cfg.augmentation.name}; "
            "a folder of an earlier version or with other settings cannot go on, so start the run by its settings"
        )
    return cfg


def _content(cfg: DictConfig, overrides: Sequence[str] | None) -> str:
    """Return the configuration to write to the run folder; whoever reads it back does not start over again."""
    check_names(overrides or ())
    return OmegaConf.to_yaml({"identity_version": IDENTITY_VERSION, **resolved(cfg), "force": False})


def _write_config(folder: Path, config: str, overrides: Sequence[str] | None) -> None:
    write_text_atomic(folder / "config.yaml", config)
    if overrides is not None:
        write_text_atomic(folder / "overrides.yaml", OmegaConf.to_yaml(list(overrides)))


def _clear(folder: Path) -> None:
    # The marks of progress go first: what a kill leaves behind must not pass for a finished or resumable run.
    progress = ("summary.json", "last.pt")
    for path in sorted(folder.iterdir(), key=lambda path: path.name not in progress):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in ("lock", JOB_FILE):  # a job that waits trains the run as well
            path.unlink()


def _lock(folder: Path) -> FileLock:
    """Create and lock a folder for this process until the lock is released; the system does so if it is killed.

    Raises:
        ReldropError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=LOCK_RETRY_SECONDS)
    except Timeout:
        holder = file.read_text().strip() or "another process"
        raise ReldropError(
            f"run folder {folder} is in use by {holder}; wait for it or change the configuration"
        ) from None
    file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    return lock


def _fail(folder: Path, error: BaseException | None) -> None:
    """Write FAILED, unless another process of the run has: its failure is the reason for this one."""
    if isinstance(error, Exception) and not (folder / "FAILED").exists():  # an interrupt is no failure
        with suppress(OSError):  # a full disk must not hide the error that is on its way
            write_text_atomic(folder / "FAILED", "".join(traceback.format_exception(error)))


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(finite(record), allow_nan=False).encode() + b"\n"

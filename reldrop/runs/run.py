"""A training run on disk: its identity, its folder, its checkpoints and its metrics log.

Everything in a run folder is either appended line by line (`metrics.jsonl`) or replaced as a whole, so that a run
killed at any moment leaves a folder from which the same command goes on.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from reldrop.distributed.launch import launched, should_report
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.io import atomic_write, finite, write_json_atomic, write_text_atomic, writing

# What a run's result does not depend on: where files lie, who watches, and how fast it goes. How many processes share
# the work is no setting; that each normalizes by itself (sync_batchnorm=false) goes with their number.
NOT_IDENTITY = (
    "data_dir",
    "results_dir",
    "machine",
    "tracking",
    "force",
    "launcher",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.progress",
    "trainer.sync_batchnorm",
    "trainer.checkpoint_every",
    "trainer.keep_every",
    "trainer.evaluate_occlusion_every",
    "trainer.occlusion_samples",
    "dataset.workers",
    "dataset.memory_limit_gb",
    "dataset.download",
    "dataset.cache_dir",
)
LOCK_RETRY_SECONDS = 0.2  # seconds, in which whoever only looks whether a run folder is held has let go of it
PACKAGES = ("torch", "torchvision", "timm", "zennit", "hydra-core", "lightning-fabric", "numpy", "trimesh")


def identity(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration without the parts that do not change a run's result (`NOT_IDENTITY`).

    Raises:
        ReldropError: where a value is missing or an interpolation leads nowhere.
    """
    cfg = deepcopy(cfg)
    OmegaConf.set_readonly(cfg, False)
    with open_dict(cfg):
        cfg.data_dir = cfg.results_dir = ""  # before resolving: a path that begins with one keeps its relative part
    content = _resolved(cfg)
    for key in NOT_IDENTITY:
        *parents, leaf = key.split(".")
        node: Any = content
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(leaf, None)
    return content


def run_hash(identity: dict[str, Any]) -> str:
    """Return 8 hexadecimal digits that stand for an identity."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def run_folder(cfg: DictConfig) -> Path:
    """Return the folder of the run that `cfg` describes, whether or not it exists.

    Raises:
        ReldropError: for a configuration that does not resolve, or a name that is no name for a folder.
    """
    content = identity(cfg)
    names = {"name": content["name"], "augmentation.name": content["augmentation"]["name"]}
    for key, name in names.items():
        if name is None or not re.fullmatch(r"\w[\w.+=-]*", str(name)):
            raise ReldropError(f"{key}={name!r} names a folder: use letters, digits and . _ + = - only")
    return Path(cfg.results_dir, "runs", *map(str, names.values()), f"seed{cfg.seed}-{run_hash(content)}")


def outcome(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return last and best accuracies of the records of a run, and those of the epoch that the validation split selects."""
    last = history[-1]
    accuracies = [key for key in ("test_top1", "test_top5", "test_class_mean") if key in last]  # older runs lack some
    best = {f"best_{key}": max(record[key] for record in history) for key in accuracies if key != "test_top5"}
    selected = {}
    if last.get("validation_top1") is not None:
        selected = {"selected_test_top1": max(history, key=lambda record: record["validation_top1"])["test_top1"]}
    return {
        **{key: last[key] for key in accuracies},
        **best,
        **selected,
        "generalization_gap": last["train_top1"] - last["test_top1"],
        "train_loss": last["train_loss"],
        "epochs": last["epoch"],
        "steps": last["step"],
    }


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the result of the run of a folder; None if it is not finished.

    Raises:
        ReldropError: if it is damaged.
    """
    path = folder / "summary.json"
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise ReldropError(
            f"{path} is damaged ({first_line(error)}); delete it, and the same command writes it anew"
        ) from error


def is_held(folder: Path) -> bool:
    """Whether a process holds a run folder, on this machine or, where the file system passes locks on, on another."""
    try:
        file = (folder / "lock").open()
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go of at once, see `_lock`
        except BlockingIOError:
            return True
    return False


class Run:
    """The folder of one training run, held by one process at a time; use it as a context manager.

    Opening creates the folder, locks it, clears it if `cfg.force` is set and, unless the run is already finished,
    writes down configuration and environment. An exception that leaves the block is kept in the file FAILED.

    Files:
        config.yaml: the resolved configuration of the last start.
        environment.json: versions, devices and command of every start.
        metrics.jsonl: one record a line.
        *.pt: checkpoints.
        summary.json: the result; it is written last, so that its presence means that the run is finished.
        FAILED: the traceback of the last start, if it ended in one.
        lock: process and host that hold the folder, or held it last.

    Args:
        cfg: the composed configuration, with name, seed, augmentation.name, data_dir, results_dir and perhaps force.

    Raises:
        ReldropError: if the configuration does not resolve, the folder cannot be written, or another process holds it.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.folder = run_folder(cfg)
        config = OmegaConf.create(_resolved(cfg))
        with writing(f"to run folder {self.folder}", "set results_dir to a folder that can be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
            try:
                self._start(config)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # An interrupt is no failure of the run, and a full disk must not hide the error that is on its way.
        if isinstance(error, Exception) and not self.finished and should_report():
            with suppress(OSError):
                self.fail(error)
        self.close()

    def close(self) -> None:
        """Let go of the folder; harmless when repeated."""
        if not self._lock.closed:
            # Closing alone would leave the lock with data workers that were forked while it was held.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()

    @property
    def finished(self) -> bool:
        """Whether the run has its summary."""
        return self._summary.exists()

    def summary(self) -> dict[str, Any]:
        """Return what `finish` wrote.

        Raises:
            ReldropError: if it is damaged.
        """
        return read_summary(self.folder)

    def log(self, record: dict[str, Any]) -> None:
        """Append a record to the metrics log, durably; numbers that are not finite become null."""
        with self._metrics.open("ab") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def history(self) -> list[dict[str, Any]]:
        """Return the records of the metrics log; a last line that was cut off in writing does not count.

        Raises:
            ReldropError: for a line that is no JSON.
        """
        lines = self._metrics.read_bytes().split(b"\n")[:-1] if self._metrics.exists() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise ReldropError(
                f"metrics log {self._metrics} is damaged ({error}); start the run over with force=true"
            ) from error

    def rewind(self, epoch: int) -> None:
        """Drop the records behind `epoch` from the metrics log.

        For resuming: a checkpoint follows its record, so that a kill between the two leaves a record too many.
        """
        kept = [record for record in self.history() if record["epoch"] <= epoch]
        with atomic_write(self._metrics) as file:
            file.writelines(map(_line, kept))

    def save(self, state: dict[str, Any], name: str) -> None:
        """Write a checkpoint; until it is complete, an earlier one of that name stays."""
        with atomic_write(self.folder / name) as file:
            torch.save(state, file)

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a checkpoint with its tensors on the CPU, or None if there is none of that name.

        Raises:
            ReldropError: if the file is truncated or otherwise damaged.
        """
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # depending on which bytes are wrong, almost any
            raise ReldropError(
                f"checkpoint {path} is damaged ({first_line(error)}); delete it to go on without it, "
                "or start the run over with force=true"
            ) from error

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        write_json_atomic(self._summary, summary)
        self._failed.unlink(missing_ok=True)

    def fail(self, error: BaseException) -> None:
        """Keep the traceback of `error` in the file FAILED, until the next start."""
        write_text_atomic(self._failed, _traceback(error))

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _summary(self) -> Path:
        return self.folder / "summary.json"

    @property
    def _failed(self) -> Path:
        return self.folder / "FAILED"

    def _start(self, config: DictConfig) -> None:
        if config.get("force", False):
            self._clear()
        if self.finished:
            return
        for leftover in (self._failed, *self.folder.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)
        self._trim()
        write_text_atomic(self.folder / "config.yaml", OmegaConf.to_yaml(config))
        environment = self.folder / "environment.json"
        starts = json.loads(environment.read_text())["starts"] if environment.exists() else []
        write_json_atomic(environment, {"starts": [*starts, _environment()]})

    def _clear(self) -> None:
        # The marks of progress go first: what a kill leaves behind must not pass for a finished or resumable run.
        progress = ("summary.json", "last.pt")
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name not in progress):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _trim(self) -> None:
        """Remove a line of the metrics log that was cut off, lest the next record be glued to it."""
        if self._metrics.exists():
            whole = self._metrics.read_bytes().rpartition(b"\n")
            os.truncate(self._metrics, len(whole[0]) + len(whole[1]))


class NullRun:
    """Stands for a run in the processes that only compute: the first one alone holds, reads and writes the folder.

    An exception that leaves the block is kept in FAILED all the same, if this process is the one to report it.
    """

    finished = False

    def __init__(self, cfg: DictConfig) -> None:
        self.folder = run_folder(cfg)

    def __enter__(self) -> "NullRun":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and should_report():
            with suppress(OSError):
                write_text_atomic(self.folder / "FAILED", _traceback(error))

    def log(self, record: dict[str, Any]) -> None:
        """Leave it to the first process."""

    def rewind(self, epoch: int) -> None:
        """Leave it to the first process."""

    def save(self, state: dict[str, Any], name: str) -> None:
        """Leave it to the first process."""

    def load(self, name: str) -> None:
        """Leave it to the first process, which passes it on."""


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ReldropError(f"the configuration does not resolve: {first_line(error)}") from error


def _lock(folder: Path) -> IO[str]:
    """Lock `folder` for this process until the returned file is closed; the system does so even if it is killed."""
    file = (folder / "lock").open("a+")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_RETRY_SECONDS)  # it may only have been `is_held` that looked
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ReldropError(
            f"run folder {folder} is in use by {holder}; wait for it or change the configuration"
        ) from None
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(finite(record), allow_nan=False).encode() + b"\n"


def _environment() -> dict[str, Any]:
    """Describe what a start ran on."""
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "overrides": _overrides(),
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "processes": launched().processes,
        "devices": cuda or [platform.processor() or platform.machine()],
        "git": _git(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _overrides() -> list[str] | None:
    """Return the words that this run of a sweep was composed with: the command is that of the sweep, or of a launcher."""
    if not HydraConfig.initialized():
        return None
    return OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[return-value]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(checkout: Path) -> dict[str, Any] | None:
    """Return the commit of a source checkout and whether code or configuration differ from it; None elsewhere."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()

    try:
        commit, top = git("rev-parse", "HEAD", "--show-toplevel")
        if Path(top) != checkout.resolve():  # installed into an environment inside some other project's checkout
            return None
        return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", "reldrop", "conf"))}
    except (OSError, subprocess.SubprocessError):
        return None

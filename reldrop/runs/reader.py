"""The one way to read a run folder: its configuration, its progress, its result and its checkpoints."""

import fcntl
import glob
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from reldrop.metrics.registry import current_key, find
from reldrop.runs.trust import check_plain
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import read

Content = TypeVar("Content")

TIMING = ("attribution/share_of_time", "speed/samples_per_second")  # of the machine, not of the result
OVER = "start the run over with force=true"


class UnreadableRun(ReldropError):
    """A run has no checkpoint, or a file that cannot be read; others may be fine."""


class RunFolder:
    """A run on disk. What reads a file raises `UnreadableRun` where the file is damaged.

    Files:
        config.yaml: the resolved configuration of the last start, or of the first one that is still to come.
        overrides.yaml: the words that it was composed with.
        environment.json: versions, devices and command of every start.
        metrics.jsonl: one record a line, of each epoch.
        steps.jsonl: the same, of some steps.
        train.log: what all starts have said, with times, and the tracebacks of those that failed.
        last.pt, best.pt, epochN.pt: checkpoints.
        summary.json: the result; it is written last, so that its presence means that the run is finished.
        FAILED: the traceback of the last start, if it ended in one.
        job: the number of its last job of SLURM, if it had one.
        lock: process and host that hold the folder, or held it last.
        evaluation.json, zero_shot.json: evaluations, with their samples in .npz.

    Args:
        path: of the folder, whether or not it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def label(self) -> str:
        """The run in words: experiment/augmentation/seed-hash."""
        return "/".join(self.path.resolve().parts[-3:])

    @property
    def config(self) -> DictConfig:
        """The resolved configuration, see `read_config`."""
        return read_config(self.path / "config.yaml")

    @property
    def overrides(self) -> list[str] | None:
        """The words that the configuration was composed with; None if they are not known."""
        words = self._read("overrides.yaml", OmegaConf.load, "delete it")
        return None if words is None else OmegaConf.to_container(words)  # type: ignore[return-value]

    def environment(self) -> list[dict[str, Any]]:
        """Return what each start ran on, see `reldrop.runs.environment`."""
        return self._read("environment.json", lambda path: list(_json(path)["starts"]), "") or []

    def summary(self) -> dict[str, Any] | None:
        """Return the result; None if the run is not finished."""
        summary = self._read("summary.json", _json, "delete it, and the same command writes it again")
        return summary and {current_key(key): value for key, value in summary.items() if key != "identity_version"}

    def history(self) -> list[dict[str, Any]]:
        """Return the records of the metrics log; a last line that was cut off in writing does not count."""
        return self._read("metrics.jsonl", lambda path: [_record(line) for line in _lines(path)], OVER) or []

    def steps(self) -> list[dict[str, Any]]:
        """Return the records of single steps."""
        return self._read("steps.jsonl", lambda path: [_record(line) for line in _lines(path)], "delete it") or []

    def evaluations(self) -> dict[str, Any]:
        """Return the content of each evaluation, by the name of its file."""
        files = sorted(self.path.glob("*.json"))
        others = [file.stem for file in files if file.stem not in ("summary", "environment")]
        return {name: self._read(f"{name}.json", _json, "evaluate the run again") for name in others}

    @property
    def finished(self) -> bool:
        """Whether the run has its summary."""
        return (self.path / "summary.json").exists()

    @property
    def is_held(self) -> bool:
        """Whether a process holds the folder, on this machine or, where the file system passes locks on, on another."""
        try:
            file = (self.path / "lock").open()
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released at once; a start waits for that
            except BlockingIOError:
                return True
        return False

    @property
    def state(self) -> str:
        """Where the run stands.

        finished (it has its summary), running (a process holds its folder), failed (its last start ended in an error),
        waiting (it has not been started), or interrupted (none of these: the same command goes on).
        """
        if self.finished:
            return "finished"
        if self.is_held:
            return "running"
        if (self.path / "FAILED").exists():
            return "failed"
        return "interrupted" if (self.path / "environment.json").exists() else "waiting"

    @property
    def progress(self) -> str:
        """Finished epochs of all, or steps where those are limited."""
        last = self._read("metrics.jsonl", lambda path: json.loads((_lines(path) or ["{}"])[-1]), OVER) or {}
        trainer = self.config.trainer
        if (limit := trainer.get("max_steps")) is not None:
            return f"step {last.get('step', 0)} of {limit}"
        return f"epoch {last.get('epoch', 0)} of {trainer.epochs}"

    @property
    def failure(self) -> str:
        """The error that the last start ended in, in a line; empty if it did not end in one."""
        lines = (self._read("FAILED", Path.read_text, "") or "").strip().splitlines() or [""]
        return re.sub(r"^reldrop\.[\w.]+: ", "", lines[-1])  # the kind of an error of this package

    def _read(self, name: str, load: Callable[[Path], Content], advice: str) -> Content | None:
        path = self.path / name
        return read(path, load, advice, UnreadableRun) if path.exists() else None


def read_config(path: Path) -> DictConfig:
    """Return the configuration of a run from its file.

    Raises:
        UnreadableRun: if it is missing, damaged, none of a run, or has values that are computed.
    """

    def load(path: Path) -> DictConfig:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or {"dataset", "backbone", "augmentation"} - config.keys():
            raise ValueError("it is no configuration of a run: it must have dataset, backbone and augmentation")
        check_plain(config)
        return config

    return read(path, load, kind=UnreadableRun)


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Return what paths or glob patterns lead to, run folders or checkpoint files, each once and sorted.

    Raises:
        ReldropError: one of them leads to nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()  # its name may look like a pattern
        matches = [path] if path.exists() else [Path(match) for match in glob.glob(str(path))]
        # Files beside run folders may match as well; a pattern for checkpoint files matches nothing else.
        folders = [match for match in matches if match.is_dir()]
        if not matches:
            raise ReldropError(
                f"run={pattern} leads to no folder; it must be a run folder, a pattern of such, or a checkpoint file"
            )
        found.update(folders or matches)
    return sorted(found)


def summary_of(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the last epoch of a run under their names, and those of the test set at their best and selected.

    NAME of the test set is test/NAME of the last epoch, test/best_NAME of all epochs, by the direction of the metric, and
    test/selected_NAME of the epoch with the highest validation/top1, if the run has a validation split.
    """
    last = history[-1]
    shown = [key for key in last if "/" in key and key not in TIMING]
    further = {}
    validated = last.get("validation/top1") is not None
    chosen = max(history, key=lambda record: record["validation/top1"]) if validated else {}
    for key in shown:
        section, _, name = key.partition("/")
        metric = find(key)
        values = [record[key] for record in history if record.get(key) is not None]  # older runs lack some
        if section == "test" and values and metric and metric.better != "none":
            further[f"test/best_{name}"] = max(values) if metric.better == "higher" else min(values)
            if chosen.get(key) is not None:
                further[f"test/selected_{name}"] = chosen[key]
    return {
        **{key: last[key] for key in shown},
        **further,
        "test/generalization_gap": last["train/top1"] - last["test/top1"],
        "epochs": last["epoch"],
        "steps": last["step"],
    }


def run_folders(results: Path) -> list[RunFolder]:
    """Return the runs under a results folder, whether finished, begun or waiting."""
    return [RunFolder(path) for path in sorted((results / "runs").glob("*/*/seed*")) if path.is_dir()]


def _record(line: bytes) -> dict[str, Any]:
    return {current_key(key): value for key, value in json.loads(line).items()}


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]  # a last line may be cut off

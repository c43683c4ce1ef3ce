"""Runs as tables see them: settings, seed and figures, from run folders or W&B."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reldrop.metrics.registry import current_key, learn
from reldrop.runs.identity import identity, run_hash
from reldrop.runs.reader import RunFolder, run_folders
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.nested import flatten, numbers
from reldrop.utils.text import unknown

NAMES = ("name", "seed", "dataset.name", "backbone.name", "augmentation.name")  # that every run has
SAMPLES = ("dataset", "source", "train_samples", "test_samples")  # of summary.json: what was learned from and tested on
# Keys of evaluation files that identify the run, and the nested settings.
OWN = ("subject", "weights", "experiment", "dataset", "backbone", "augmentation", "seed", "setting", "settings")


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        run: its folder, or its address at W&B.
        seed: its seed.
        settings: its identity without the seed, dotted key -> value; see `reldrop.runs.identity.identity`.
        figures: dotted key -> number; accuracies and other shares in [0, 1].
        conditions: the samples and options of the figures, e.g. summary.source or zero_shot.limit.
        starts: of each start, time, commit, dirty flag and overrides, as far as they are known.
    """

    run: str
    seed: int
    settings: dict[str, Any]
    figures: dict[str, float]
    conditions: dict[str, Any] = field(default_factory=dict)
    starts: Sequence[dict[str, Any]] = ()

    @classmethod
    def of(cls, run: str, config: DictConfig, **content: Any) -> "Record":
        """Return the record of a run with this configuration.

        Raises:
            ReldropError: if the configuration is none of a run.
        """
        settings = identity(config)
        if lacking := [key for key in NAMES if key not in settings]:
            raise ReldropError(f"its configuration lacks {', '.join(lacking)}")
        return cls(run, settings.pop("seed"), settings, **content)

    @cached_property
    def setting(self) -> str:
        """A hash of all settings but the seed."""
        return run_hash(self.settings)

    @property
    def config_hash(self) -> str:
        """A hash of the settings with the seed, the one of a run folder's name."""
        return run_hash({**self.settings, "seed": self.seed})

    @property
    def experiment(self) -> str:
        return self.settings["name"]

    @property
    def dataset(self) -> str:
        """Its name; without one, that of its folder."""
        return self.settings["dataset.name"] or Path(self.settings.get("dataset.folder") or "-").name

    @property
    def backbone(self) -> str:
        return self.settings["backbone.name"]

    @property
    def augmentation(self) -> str:
        return self.settings["augmentation.name"]

    @property
    def on_points(self) -> bool:
        return "dataset.points" in self.settings

    @property
    def is_smoke(self) -> bool:
        """Whether the run only tests that it runs (scale=smoke), by the name of its experiment."""
        return "smoke" in self.experiment.split("_")

    @cached_property
    def selectable(self) -> dict[str, str]:
        """All that `select` can compare, as text."""
        own = {"seed": self.seed, "setting": self.setting, "run": self.run}
        return {key: as_text(value) for key, value in {**self.settings, **self.conditions, **own}.items()}


def read_runs(results: Path) -> tuple[list[Record], list[str]]:
    """Return the finished runs under `results`, and a line on each that is left out because it cannot be read.

    Runs that are not finished are named in one more line.
    """
    records, remarks, unfinished = [], [], []
    for run in run_folders(results):
        if not run.finished:
            unfinished.append(str(run.path))
            continue
        try:
            records.append(read_record(run))
        except (ReldropError, ValueError, TypeError, AttributeError, KeyError) as error:
            remarks.append(f"{run.path} is left out: {first_line(error)}")
    if unfinished:
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        remarks.append(
            f"not finished and left out: {', '.join(unfinished[:3])}{more} (see python -m reldrop.tables status)"
        )
    return records, remarks


def read_record(run: RunFolder) -> Record:
    """Return a run, finished or not, with the figures of its summary and of its evaluations.

    Raises:
        ReldropError: if a file is damaged.
    """
    summary = run.summary() or {}
    learn(summary.get("metrics", {}))
    figures, conditions = numbers(summary), {f"summary.{key}": summary[key] for key in SAMPLES if key in summary}
    for name, content in run.evaluations().items():
        if isinstance(content, dict):
            figures |= numbers({name: content})
            conditions |= {f"{name}.{key}": value for key, value in _conditions(content)}
    figures = {current_key(key): value for key, value in figures.items()}
    starts = []
    for start in run.environment():
        code = start.get("git") or {"commit": None, "dirty": None}
        starts.append(
            {key: start[key] for key in ("time", "overrides", "config_dir") if start.get(key) is not None} | code
        )
    return Record.of(str(run.path), run.config, figures=figures, conditions=conditions, starts=starts)


def select(records: Sequence[Record], where: Sequence[str]) -> list[Record]:
    """Return the records that agree with each KEY=VALUE or KEY!=VALUE.

    Keys are settings, conditions, `seed`, `setting` and `run`; VALUE may be several with commas between, and have * and
    ?. Records without the key stay: the arm `none` has no augmentation.k.

    Raises:
        ReldropError: for a word that is no KEY=VALUE, a key of no run, or a value that leaves none.
    """
    known = set().union(*(record.selectable for record in records))
    for word in where:
        if (parts := re.fullmatch(r"([^=!]+)(!?)=(.*)", word)) is None:
            raise ReldropError(f"where={word} is not of the form where=KEY=VALUE or where=KEY!=VALUE")
        key, negated, value = parts.groups()
        if key not in known:
            sentence = f"where={word}: no run has a setting {key}"
            raise ReldropError(unknown(sentence, key, known, "e.g. name, dataset.name or augmentation.k are"))
        patterns = re.split(r",(?![^\[]*\])", value)  # commas between brackets are part of a list
        texts = {record.selectable[key] for record in records if key in record.selectable}
        alike = {text for text in texts if any(text == each or fnmatchcase(text, each) for each in patterns)}
        left = texts - alike if negated else alike
        if texts and not left:
            raise ReldropError(f"where={word} leaves no run; there are {', '.join(sorted(texts))}")
        records = [record for record in records if record.selectable.get(key) in (None, *left)]
    return list(records)


def as_text(value: Any) -> str:
    """Return a setting as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _conditions(evaluation: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what the figures of an evaluation depend on besides the run: settings, samples, checkpoint."""
    if isinstance(settings := evaluation.get("settings"), dict):
        for key, value in flatten(settings, prefix="settings."):
            yield key, value.rpartition(".")[2] if key.endswith("_target_") else value  # classes may move
    if checkpoint := str(evaluation.get("subject", "")).partition(", ")[2]:
        name, _, _epochs = checkpoint.partition(", ")
        yield "checkpoint", name if name.startswith("best") else checkpoint  # each seed has its best epoch
    for key, value in evaluation.items():
        if key not in OWN and (value is None or isinstance(value, str | bool | int)):
            yield key, value

"""Finished runs as tables see them: settings, seed and figures, wherever they are read from."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reldrop.runs.identity import identity, run_hash
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import unknown

SAMPLES = ("dataset", "source", "train_samples", "test_samples")  # of summary.json: what was learned from and tested on
# Of evaluation files: what says which run it was, and settings, which are nested.
OWN = ("subject", "weights", "experiment", "dataset", "backbone", "augmentation", "seed", "setting", "settings")


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        run: its folder, or its address at W&B.
        seed: its seed.
        settings: its identity without the seed, dotted key -> value; see `reldrop.runs.run.identity`.
        figures: what it reached, dotted key -> number; accuracies and other shares in [0, 1].
        conditions: what the figures were measured on and how, e.g. summary.source or zero_shot.limit.
        starts: of each start, time, commit, dirty flag and command or overrides, as far as they are known.
    """

    run: str
    seed: int
    settings: dict[str, Any]
    figures: dict[str, float]
    conditions: dict[str, Any] = field(default_factory=dict)
    starts: Sequence[dict[str, Any]] = ()

    @classmethod
    def of(cls, run: str, config: dict[str, Any], **content: Any) -> "Record":
        """Return the record of a run with this resolved configuration.

        Raises:
            ReldropError: if the configuration is none of a run.
        """
        settings = dict(_flat(identity(OmegaConf.create(config))))
        if lacking := [key for key in ("name", "seed", *NAMES) if key not in settings]:
            raise ReldropError(f"its configuration lacks {', '.join(lacking)}")
        return cls(run, settings.pop("seed"), settings, **content)

    @cached_property
    def setting(self) -> str:
        """A hash of all settings but the seed."""
        return run_hash(_nested(self.settings))

    @property
    def config_hash(self) -> str:
        """A hash of the settings with the seed, the one of a run folder's name."""
        return run_hash(_nested({**self.settings, "seed": self.seed}))

    @property
    def experiment(self) -> str:
        return self.settings["name"]

    @property
    def dataset(self) -> str:
        return self.settings["dataset.name"]

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
        """Whether the run only shows that it can be run (scale=smoke); its experiment's name says so."""
        return "smoke" in self.experiment.split("_")

    @cached_property
    def selectable(self) -> dict[str, str]:
        """What `select` goes by, as text."""
        own = {"seed": self.seed, "setting": self.setting, "run": self.run}
        return {key: as_text(value) for key, value in {**self.settings, **self.conditions, **own}.items()}

    def matches(self, key: str, patterns: Iterable[str]) -> bool:
        """Whether the value of a key is one of these, or like one with * and ?."""
        text = self.selectable[key]
        return any(text == pattern or fnmatchcase(text, pattern) for pattern in patterns)


NAMES = ("dataset.name", "backbone.name", "augmentation.name")


def read_runs(results: Path) -> tuple[list[Record], list[str]]:
    """Return the finished runs under `results`, and a line on each that is left out because it cannot be read.

    Runs that are not finished are named in one more line.
    """
    records, remarks, unfinished = [], [], []
    for folder in run_folders(results):
        if not (folder / "summary.json").exists():
            unfinished.append(str(folder))
            continue
        try:
            records.append(_read(folder))
        except (ReldropError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            remarks.append(f"{folder} is left out: {first_line(error)}")
    if unfinished:
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        remarks.append(
            f"not finished and left out: {', '.join(unfinished[:3])}{more} (see python -m reldrop.tables status)"
        )
    return records, remarks


def run_folders(results: Path) -> list[Path]:
    """Return the folders of runs under `results`, finished or not."""
    return sorted(folder for folder in (results / "runs").glob("*/*/seed*") if folder.is_dir())


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ReldropError: naming the file, if it is damaged.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ReldropError(f"{file.name} is damaged ({first_line(error)})") from error


def read_config(folder: Path) -> DictConfig:
    """Return the resolved configuration of a run folder.

    Raises:
        ReldropError: if it is damaged or not there.
    """
    try:
        config = OmegaConf.load(folder / "config.yaml")
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ReldropError(f"config.yaml cannot be read ({first_line(error)})") from error
    if not isinstance(config, DictConfig):
        raise ReldropError("config.yaml is no configuration")
    return config


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
        having = [record for record in records if key in record.selectable]
        left_out = {record.run for record in having if record.matches(key, patterns) == bool(negated)}
        if having and len(left_out) == len(having):
            values = sorted({record.selectable[key] for record in having})
            raise ReldropError(f"where={word} leaves no run; there are {', '.join(values)}")
        records = [record for record in records if record.run not in left_out]
    return list(records)


def as_text(value: Any) -> str:
    """Return a setting as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def numbers(value: Any, prefix: str = "", between: str = ".") -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested dictionaries and lists, with their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from numbers(item, f"{prefix}{key}{between}", between)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield f"{prefix}{key}", item


def _read(folder: Path) -> Record:
    config = OmegaConf.to_container(read_config(folder))
    environment = folder / "environment.json"
    starts = read_json(environment)["starts"] if environment.exists() else []
    summary = read_json(folder / "summary.json")
    figures = dict(numbers(summary))
    conditions = {f"summary.{key}": summary[key] for key in SAMPLES if key in summary}
    for file in sorted(folder.glob("*.json")):
        if file.name not in ("summary.json", "environment.json"):
            content = read_json(file)
            if isinstance(content, dict):
                figures |= numbers(content, f"{file.stem}.")
                conditions |= {f"{file.stem}.{key}": value for key, value in _conditions(content)}
    return Record.of(
        str(folder), config, figures=figures, conditions=conditions, starts=[_start(start) for start in starts]
    )


def _conditions(evaluation: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what the figures of an evaluation file depend on besides the run: its settings, its samples, the checkpoint."""
    if isinstance(settings := evaluation.get("settings"), dict):
        yield from _flat(settings, "settings.")
    if checkpoint := str(evaluation.get("subject", "")).partition(", ")[2]:
        yield "checkpoint", checkpoint
    for key, value in evaluation.items():
        if key not in OWN and (value is None or isinstance(value, str | bool | int)):
            yield key, value


def _start(start: dict[str, Any]) -> dict[str, Any]:
    known = {key: start[key] for key in ("time", "command", "overrides") if start.get(key) is not None}
    return {**known, **(start.get("git") or {"commit": None, "dirty": None})}


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Undo `_flat`."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return nested

"""Commands that fill cells."""

import shlex
import sys
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir

from reldrop import tables
from reldrop.config import CONFIG_PATH
from reldrop.reporting.cells import Score
from reldrop.reporting.records import Record
from tests.helpers.paths import TESTS

FIXTURES = TESTS / "fixtures"


RUNS = FIXTURES / "tables"


TOP1 = Score("test/top1")


def run(capsys, monkeypatch, *words):
    """Return what the command prints, to its two streams."""
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, words)])
    tables.command()
    return capsys.readouterr()


def fails(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        tables.command()
    assert stop.value.code.startswith("error: ")
    return stop.value.code


def changed(record, seed=None, figures=None, **settings):
    """Return a record with other settings (a__b for a.b), as of another run."""
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return replace(
        record,
        run=f"{record.run}-{sorted(settings.items())}-{seed}",
        seed=record.seed if seed is None else seed,
        settings={**record.settings, **settings},
        figures={**record.figures, **(figures or {})},
    )


def arm(records, name):
    return [record for record in records if record.augmentation == name]


def on_seeds(record, values, key="test/top1", **settings):
    return [changed(record, seed, {key: value}, **settings) for seed, value in enumerate(values)]


def composed(command):
    """Return the record that the run of a command would have."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "reldrop.train"]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", words[3:])
    return Record.of("new", cfg, figures={})


def has_settings_of(record, other):
    """Whether a record has all settings of another one, which may be of an older version that had fewer."""
    return other.settings == {key: record.settings[key] for key in other.settings}

"""Settings that appear in conf/ or vanish from it, against a snapshot of what runs of this identity version have.

`python -m tests.unit.runs.test_added_settings` writes the snapshot.
"""

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reldrop.config import CONFIG_PATH
from reldrop.runs.identity import ADDED_LATER, IDENTITY_VERSION, OUTSIDE
from reldrop.utils.nested import flatten

SNAPSHOT = Path(__file__).parents[2] / "fixtures" / "identity_settings.json"
WRITE = "python -m tests.unit.runs.test_added_settings"


def settings() -> dict[str, list[str]]:
    """Return the settings of every choice that a run's identity depends on, "group/choice" -> keys."""
    found = {}
    top = OmegaConf.load(Path(CONFIG_PATH, "train.yaml"))
    groups = [name for each in top.defaults if OmegaConf.is_dict(each) for name in each if "/" not in name]
    for group in groups:
        if group not in OUTSIDE:
            for file in sorted(Path(CONFIG_PATH, group).glob("[!_]*.yaml")):
                found[f"{group}/{file.stem}"] = sorted(_keys(file))
    return found


def _keys(file: Path) -> set[str]:
    config = OmegaConf.to_container(OmegaConf.load(file))
    inherited = set()
    for name in config.pop("defaults", []):
        if isinstance(name, str) and name != "_self_":
            inherited |= _keys(file.parent / f"{name}.yaml")
    return inherited | {key for key, _ in flatten(config) if not key.endswith("_target_")}


def remarks(before: dict[str, list[str]], now: dict[str, list[str]], added: dict[str, object]) -> list[str]:
    """Return a sentence for each setting that has no place in the identity of earlier runs."""
    sentences = []
    for choice, keys in now.items():
        group, file = choice.split("/")[0], f"conf/{choice}.yaml"
        if choice not in before:
            sentences.append(f"{file} is new: add it to the snapshot by `{WRITE}`")
            continue
        sentences += [
            f"{file} has a new setting, {key}: earlier runs lack it and would be orphaned. Add '{group}.{key}' with the value "
            f"that they had to ADDED_LATER in reldrop/runs/identity.py, and never change it, not even with the default"
            for key in keys
            if key not in before[choice] and f"{group}.{key}" not in added
        ]
        sentences += [
            f"{file} has lost a setting, {key}: earlier runs have it and are orphaned. Put it back, or raise IDENTITY_VERSION "
            f"in reldrop/runs/identity.py, empty ADDED_LATER, and write the snapshot again by `{WRITE}`"
            for key in before[choice]
            if key not in keys
        ]
    return sentences


def test_every_new_setting_is_known_to_the_identity():
    snapshot = json.loads(SNAPSHOT.read_text())
    assert snapshot["identity_version"] == IDENTITY_VERSION, f"write the snapshot again by `{WRITE}`"
    before = {choice: keys.split() for choice, keys in snapshot["settings"].items()}
    assert not (found := remarks(before, settings(), ADDED_LATER)), "\n".join(found)


@pytest.mark.parametrize(
    ("now", "added", "sentence"),
    [
        ({"a/x": ["k", "new"]}, {}, "conf/a/x.yaml has a new setting, new.*Add 'a.new' with the value"),
        ({"a/x": ["k", "new"]}, {"a.new": 1}, None),
        ({"a/x": []}, {}, "conf/a/x.yaml has lost a setting, k.*raise IDENTITY_VERSION"),
        ({"a/x": ["k"], "a/y": ["k"]}, {}, "conf/a/y.yaml is new: add it to the snapshot"),
        ({}, {}, None),
    ],
)
def test_what_is_said_of_a_change(now, added, sentence):
    found = remarks({"a/x": ["k"]}, now, added)
    assert len(found) == (sentence is not None)
    if sentence is not None:
        assert re.match(sentence, found[0])


if __name__ == "__main__":
    content = {
        "identity_version": IDENTITY_VERSION,
        "settings": {choice: " ".join(keys) for choice, keys in settings().items()},
    }
    SNAPSHOT.write_text(json.dumps(content, indent=1) + "\n")

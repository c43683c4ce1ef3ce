"""Identity."""

import pytest
from omegaconf import OmegaConf

from reldrop.runs.identity import identity, run_folder, run_hash
from reldrop.runs.run import Run
from reldrop.utils.errors import ReldropError
from tests.helpers.run_folders import make_config

# Identity and folder


@pytest.mark.parametrize(
    "change",
    [
        {"data_dir": "/elsewhere"},
        {"force": True},
        {"tracking__mode": "online"},
        {"launcher": {"partition": "gpu"}},
        {"dataset__workers": 0},
        {"dataset__download": True},
        {"trainer__devices": 4},
        {"trainer__accelerator": "cuda"},
        {"trainer__checkpoint_every": 10},
    ],
)
def test_identity_ignores_what_does_not_change_the_result(change):
    assert run_hash(identity(make_config("r", **change))) == run_hash(identity(make_config("elsewhere")))


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"augmentation__alpha": 0.5}, {"dataset__root": "${data_dir}/cars"}, {"trainer__lr": 0.1}]
)
def test_identity_notices_what_changes_the_result(change):
    assert run_hash(identity(make_config("r", **change))) != run_hash(identity(make_config("r")))


def test_identity_keeps_the_relative_part_of_a_path_and_leaves_the_configuration_alone(cfg):
    OmegaConf.set_readonly(cfg, True)
    before = OmegaConf.to_yaml(cfg)
    assert identity(cfg)["dataset"] == {"root": "/cubs", "size": 32}
    assert OmegaConf.to_yaml(cfg) == before


def test_identity_resolves_what_points_into_ignored_parts():
    assert identity(make_config("r", trainer__note="${tracking.mode}"))["trainer"]["note"] == "disabled"


@pytest.mark.parametrize("value", ["${nowhere}", "???"])
def test_unresolvable_configuration_is_refused(tmp_path, value):
    with pytest.raises(ReldropError, match="does not resolve"):
        Run(make_config(tmp_path, augmentation__alpha=value))


def test_folder(cfg, tmp_path):
    folder = run_folder(cfg)
    assert folder == tmp_path / "runs" / "demo" / "reldrop" / f"seed3-{run_hash(identity(cfg))}"
    assert not folder.exists()


@pytest.mark.parametrize("key", ["name", "augmentation__name"])
@pytest.mark.parametrize("name", ["a/b", "..", "", None])
def test_names_stay_inside_the_results(tmp_path, key, name):
    with pytest.raises(ReldropError, match="names a folder"):
        run_folder(make_config(tmp_path, **{key: name}))

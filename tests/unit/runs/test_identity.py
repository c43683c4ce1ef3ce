"""What a run's folder is named by."""

import pytest
from omegaconf import OmegaConf

from reldrop.runs.identity import ADDED_LATER, IDENTITY_VERSION, identity, run_folder, run_hash
from reldrop.runs.run import Run
from reldrop.utils.errors import ReldropError
from tests.helpers.run_folders import make_config


def hash_of(**changes):
    return run_hash(identity(make_config("results", **changes)))


def test_identity_ignores_where_results_are():
    assert run_hash(identity(make_config("elsewhere"))) == hash_of()


@pytest.mark.parametrize(
    "change",
    [
        {"data_dir": "/elsewhere"},
        {"force": True},
        {"run": "some/folder"},
        {"tracking__mode": "online"},
        {"launcher": {"partition": "gpu"}},
        {"machine": {"accelerator": "cuda", "workers": 0}},
        {"monitor": {"checkpoint_every_steps": 10}},
        {"scale": {"suffix": ""}},
    ],
)
def test_identity_ignores_what_does_not_change_the_result(change):
    assert hash_of(**change) == hash_of()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"seed": 4},
        {"augmentation__alpha": 0.5},
        {"augmentation__name": "other"},
        {"augmentation__new": None},
        {"dataset__size": 64},
        {"trainer__lr": 0.1},
    ],
)
def test_identity_notices_what_changes_the_result(change):
    assert hash_of(**change) != hash_of()


def test_choices_are_told_by_name_and_not_by_python_path():
    before = hash_of(optimizer={"_target_": "package.Old", "name": "sgd", "lr": 0.1})
    assert hash_of(optimizer={"_target_": "elsewhere.New", "name": "sgd", "lr": 0.1}) == before
    assert hash_of(optimizer={"_target_": "package.Old", "name": "adam", "lr": 0.1}) != before


@pytest.mark.parametrize(("one", "other"), [(3, 3.0), ([1, 2.0], [1.0, 2]), ({"a": 1.0}, {"a": 1}), (1e3, 1000)])
def test_numbers_of_other_types_are_the_same(one, other):
    assert hash_of(dataset__size=one) == hash_of(dataset__size=other)


@pytest.mark.parametrize(("one", "other"), [(3, 3.5), (1, "1"), (1, True), (None, 0), ([1, 2], [2, 1])])
def test_other_values_are_not_the_same(one, other):
    assert hash_of(dataset__size=one) != hash_of(dataset__size=other)


def test_order_of_settings_is_no_part_of_it():
    first = hash_of(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})
    assert first == hash_of(optimizer={"momentum": 0.9, "lr": 0.1, "name": "sgd"})


def test_a_setting_added_later_orphans_no_run(monkeypatch):
    before = hash_of()
    monkeypatch.setitem(ADDED_LATER, "augmentation.new", 1.0)
    assert hash_of(augmentation__new=1) == before  # what earlier runs had, whatever the default is today
    assert hash_of(augmentation__new=2) != before
    assert hash_of(trainer__new=1) != before


def test_identity_leaves_the_configuration_alone(cfg):
    OmegaConf.set_readonly(cfg, True)
    before = OmegaConf.to_yaml(cfg)
    assert identity(cfg) == {
        "name": "demo",
        "seed": 3,
        "dataset.size": 32,
        "augmentation.name": "reldrop",
        "augmentation.alpha": 0.4,
        "trainer.epochs": 5,
    }
    assert OmegaConf.to_yaml(cfg) == before


def test_identity_resolves_what_points_into_ignored_parts():
    assert identity(make_config("r", trainer__note="${tracking.mode}"))["trainer.note"] == "disabled"


def test_identity_version_is_in_the_folder_and_no_part_of_the_identity(run):
    run.finish({"test/top1": 0.5})
    written = OmegaConf.load(run.path / "config.yaml")
    assert written.identity_version == OmegaConf.load(run.path / "summary.json").identity_version == IDENTITY_VERSION
    assert run_folder(written) == run.path
    assert run.summary() == {"test/top1": 0.5}


@pytest.mark.parametrize(("value", "said"), [("${nowhere}", "does not resolve"), ("???", "alpha has no value")])
def test_unresolvable_configuration_is_refused(tmp_path, value, said):
    with pytest.raises(ReldropError, match=said):
        Run(make_config(tmp_path, augmentation__alpha=value))


def test_folder(cfg, tmp_path):
    folder = run_folder(cfg)
    assert folder == tmp_path / "runs" / "demo" / "reldrop" / f"seed3-{run_hash(identity(cfg))}"
    assert not folder.exists()


@pytest.mark.parametrize("key", ["name", "augmentation__name"])
@pytest.mark.parametrize("name", ["a/b", "..", "", None, 300 * "a"])
def test_names_stay_inside_the_results(tmp_path, key, name):
    with pytest.raises(ReldropError, match="names a folder"):
        run_folder(make_config(tmp_path, **{key: name}))


def test_a_choice_without_a_name_is_refused(tmp_path):
    with pytest.raises(ReldropError, match=r"optimizer\.name has no value"):
        run_folder(make_config(tmp_path, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1}))


def test_a_data_set_may_take_the_name_of_its_folder(tmp_path):
    dataset = {"name": None, "_target_": "reldrop.data.image_folder", "folder": "mine"}
    assert run_folder(make_config(tmp_path, dataset=dataset)) != run_folder(make_config(tmp_path))


def test_another_class_on_the_command_line_needs_a_name(tmp_path):
    cfg = make_config(tmp_path)
    with pytest.raises(ReldropError, match=r"optimizer\._target_ .*optimizer\.name=NAME"):
        Run(cfg, ["seed=3", "optimizer._target_=torch.optim.Rprop"])
    Run(cfg, ["optimizer._target_=torch.optim.Rprop", "optimizer.name=rprop"]).close()


def test_hash_of_a_run_stays():
    """Another hash here orphans every run: raise IDENTITY_VERSION if that must be."""
    assert hash_of() == "7e008bef"

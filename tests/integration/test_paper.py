"""The paper's tables and ablations as sweeps: their grids, cell by cell, and their smoke scale."""

import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from reldrop.config import CONFIG_PATH, check_inputs, check_keys, check_scale
from reldrop.runs.identity import run_folder
from reldrop.training.run import check_parts
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import command, fails, fake_clouds, fake_data, write_images

# Settings in each grid, counted by hand, and seeds.
GRIDS = {
    "table1_cifar": (2 * 4 * 3, 5),
    "table1_cifar_scratch": (2 * 4 * 3, 5),
    "table1_imagenet": (4 * 3, 3),
    "table2_points": (2 * 3, 5),
    "ablation_occlusion": (5, 3),
    "ablation_k": (2 * 4, 3),
    "ablation_p": (2 * 5, 3),
    "ablation_area": (2 * 4, 3),
    "ablation_alpha_beta": (3 * 3, 3),
    "ablation_alpha_beta_points": (3 * 3, 3),
    "ablation_attribution": (4 * 2, 3),
    "ablation_quirks": (6, 3),
    "ablation_quirks_points": (2 * 2, 3),
}


def grid(*overrides: str) -> list[list[str]]:
    """Return the overrides of each job of a sweep, as Hydra does for a command line."""
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        fixed = [text for text in overrides if "," not in text]
        settings = compose("train", fixed, return_hydra_config=True).hydra
    assert settings.mode.name == "MULTIRUN"
    params = [f"{key}={values}" for key, values in settings.sweeper.params.items()]
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([*params, *overrides]), None)
    return jobs


def cells(*overrides: str) -> list[DictConfig]:
    """Return the configuration of each job of a sweep."""
    jobs = grid(*overrides)
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return [compose("train", job) for job in jobs]


def test_every_sweep_is_counted() -> None:
    assert {path.stem for path in (Path(CONFIG_PATH) / "experiment" / "paper").glob("*.yaml")} == set(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_is_a_run_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reldrop.training.run._try_parts", lambda *parts: None)  # takes minutes for all of them
    settings, seeds = GRIDS[name]
    assert len(grid(f"+experiment=paper/{name}")) == settings * seeds
    composed = cells(f"+experiment=paper/{name}", "seed=0")
    for cfg in composed:
        for check in (check_keys, check_scale, check_inputs, check_parts):
            check(cfg)
    folders = {run_folder(cfg) for cfg in composed}
    assert len(folders) == settings
    assert not any("smoke" in str(folder) for folder in folders)


@pytest.mark.parametrize("name", GRIDS)
def test_the_smoke_scale_says_so(name: str) -> None:
    jobs = grid(f"+experiment=paper/{name}", "scale=smoke")
    assert len(jobs) == GRIDS[name][0] * 2
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", jobs[0])
    for check in (check_keys, check_scale, check_inputs):
        check(cfg)
    assert run_folder(cfg).parts[-3].endswith("_smoke")
    assert cfg.dataset.subset == 4
    assert cfg.backbone.weights is None


def test_weights_go_with_network_and_data() -> None:
    starts = [
        (cfg.name, cfg.backbone.weights)
        for cfg in cells("+experiment=paper/table1_cifar", "backbone=resnet18,resnet101", "augmentation=none", "seed=0")
    ]
    assert starts == [
        ("table1_cifar10", "edadaltocg/resnet18_cifar10"),
        ("table1_cifar10", "edadaltocg/resnet101_cifar10"),
        ("table1_cifar100", "edadaltocg/resnet18_cifar100"),
        ("table1_cifar100", "edadaltocg/resnet101_cifar100"),
    ]
    scratch = cells("+experiment=paper/table1_cifar_scratch", "augmentation=none", "seed=0")
    assert {(cfg.name, cfg.backbone.weights) for cfg in scratch} == {
        ("table1_scratch_cifar10", None),
        ("table1_scratch_cifar100", None),
    }


def test_a_smoke_run_cannot_take_the_name_of_a_result() -> None:
    cfg = cells("+experiment=paper/ablation_k", "scale=smoke", "name=table1_cifar10", "seed=0")[0]
    with pytest.raises(ReldropError, match="name=table1_cifar10 must end with _smoke"):
        check_scale(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides", "folders"),
    [
        (
            "table1_cifar",
            ["dataset=cifar10,cifar100", "backbone=resnet18", "augmentation=reldrop_block"],
            {f"table1_{data}_smoke/reldrop_block" for data in ("cifar10", "cifar100")},
        ),
        (
            "table1_imagenet",
            ["backbone=resnet18", "augmentation=reldrop_block", "dataset.folders=[imagenet_sample]"],
            {"table1_imagenet_smoke/reldrop_block"},
        ),
        (
            "table2_points",
            ["dataset=modelnet40,shapenet", "dataset.points=32", "augmentation=reldrop_point"],
            {f"table2_{data}_smoke/reldrop_point" for data in ("modelnet40", "shapenet")},
        ),
    ],
)
def test_smoke_tables_run(tmp_path: Path, name: str, overrides: list[str], folders: set[str]) -> None:
    fake_data(tmp_path / "data")
    fake_clouds(tmp_path / "data")
    write_images(tmp_path / "data" / "imagenet_sample", {"val": 2})
    sweep = command(tmp_path, f"+experiment=paper/{name}", "scale=smoke", *overrides, "seed=0")
    done = subprocess.run(
        [*sweep, f"data_dir={tmp_path / 'data'}"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "results" / "runs"
    assert {str(path.relative_to(runs).parents[1]) for path in runs.glob("*/*/*/summary.json")} == folders


@pytest.mark.slow
def test_a_scale_that_does_not_fit_the_name_at_the_command_line(tmp_path: Path) -> None:
    assert "name=cifar_resnet_smoke" in fails(tmp_path, "+experiment=cifar_resnet", "+scale=smoke")

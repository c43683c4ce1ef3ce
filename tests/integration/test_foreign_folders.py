"""Run folders of others: nothing in them is executed, and nothing of this machine gets into what is printed."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from reldrop.config import CONFIG_PATH
from reldrop.evaluate import evaluate
from reldrop.figures import draw
from reldrop.reporting.request import Request
from reldrop.reporting.status import status_table
from reldrop.runs.identity import run_folder
from reldrop.runs.run import load_prepared
from reldrop.tables import tables
from reldrop.train import train
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import QUICK, config
from tests.helpers.sweeps import ENVIRONMENT

SECRET = "abcdef0123456789"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as it would be downloaded."""
    cfg = config(tmp_path_factory.mktemp("foreign"), *QUICK, "trainer.max_steps=1")
    train(cfg)
    return run_folder(cfg)


@pytest.fixture
def spoiled(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    def spoil(key: str, value: object) -> Path:
        folder = tmp_path.joinpath("results", *trained.parts[-4:])
        shutil.copytree(trained, folder)
        cfg = OmegaConf.load(folder / "config.yaml")
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        OmegaConf.save(cfg, folder / "config.yaml")
        return folder

    return spoil


def composed(name: str, word: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose(name, [word])


COMMANDS: dict[str, Callable[[Path], Any]] = {
    "train": load_prepared,
    "evaluate": lambda folder: evaluate(composed("evaluate", f"run={folder}")),
    "figures": lambda folder: draw(composed("figures", f"run={folder}")),
}


def run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    started = [sys.executable, "-m", *words]
    return subprocess.run(
        started, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=120, check=False
    )


CODE = "__import__('os').system('touch executed')"
PARTS = {
    "dataset.mean": {"_target_": "sympy.sympify", "a": CODE},
    "dataset._target_": "os.system",
    "backbone.stem": {"_target_": "os.system", "command": "touch executed"},
    "attribution.epsilon": [{"_target_": "builtins.eval", "_args_": [CODE]}],
    "optimizer._target_": "os.system",
    "monitor.metrics": {"x": {"_target_": "subprocess.run", "args": ["touch", "executed"]}},
    "augmentation._partial_": True,
    "launcher._target_": "spy.Spy",
}


@pytest.mark.parametrize("key", PARTS)
def test_foreign_parts_are_neither_imported_nor_built(
    tmp_path: Path, spoiled: Callable[..., Path], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spoiled(key, PARTS[key])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "spy.py").write_text("open('executed', 'w')\n")
    for command in COMMANDS.values():
        with pytest.raises(
            ReldropError, match=rf"{folder}/config.yaml: {key}.* is no part of this package, and is not"
        ):
            command(folder)
    assert not (tmp_path / "executed").exists()


def test_the_commands_say_so_in_a_sentence(tmp_path: Path, spoiled: Callable[..., Path]) -> None:
    folder = spoiled("dataset.mean", PARTS["dataset.mean"])
    for command in COMMANDS:
        done = run(tmp_path, f"reldrop.{command}", f"run={folder}")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {folder}/config.yaml: dataset.mean._target_=sympy.sympify is no part")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("key", ["name", "dataset.name", "data_dir", "optimizer.lr", "tracking.tags"])
def test_values_that_are_computed_are_not_read(
    tmp_path: Path,
    spoiled: Callable[..., Path],
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = spoiled(key, "${oc.env:WANDB_API_KEY}")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    for command in COMMANDS.values():
        with pytest.raises(ReldropError, match=rf"{key}=\$\{{oc.env:WANDB_API_KEY\}} is no plain value") as caught:
            command(folder)
        assert SECRET not in str(caught.value)
    results = str(tmp_path / "results")
    with pytest.raises(ReldropError, match="no finished runs"):
        tables(Request(**OmegaConf.to_container(composed("tables", f"results_dir={results}"))))
    print(status_table(Path(results)))
    assert SECRET not in "".join(capsys.readouterr())


def test_objects_in_yaml_and_in_checkpoints(
    tmp_path: Path, spoiled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spoiled("seed", 0)
    monkeypatch.chdir(tmp_path)
    whole = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(whole + "more: !!python/object/apply:os.system [touch executed]\n")
    for command in COMMANDS.values():
        with pytest.raises(ReldropError, match=r"config\.yaml is damaged"):
            command(folder)
    (folder / "config.yaml").write_text(whole)
    (folder / "summary.json").unlink()
    (folder / "last.pt").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    for command in (*COMMANDS.values(), lambda folder: train(load_prepared(folder))):
        if command is not load_prepared:
            with pytest.raises(ReldropError, match=r"last\.pt is damaged"):
                command(folder)
    assert not (tmp_path / "executed").exists()


def test_parts_that_the_user_names(tmp_path: Path, spoiled: Callable[..., Path]) -> None:
    folder = spoiled("backbone._target_", "mine.network")
    (tmp_path / "mine.py").write_text("from reldrop.backbones import timm_model as network\n")
    (tmp_path / "own" / "backbone").mkdir(parents=True)
    (tmp_path / "own" / "backbone" / "mine.yaml").write_text("name: mine\n_target_: mine.network\n")
    for words in ([], ["--config-dir", "."]):  # below which the run folder is
        refused = run(tmp_path, "reldrop.figures", f"run={folder}", *words)
        assert "backbone._target_=mine.network is no part" in refused.stderr
    done = run(tmp_path, "reldrop.figures", "--config-dir", "own", f"run={folder}")
    assert done.returncode == 0, done.stderr

"""What commands say of a mistake: one sentence, alone, that names what is wrong and what would be right."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import QUICK
from tests.helpers.sweeps import ENVIRONMENT

Command = Callable[..., tuple[Any, str]]

MISTAKES = [
    (["augmentaton=none"], "augmentaton is not a setting; did you mean augmentation?"),
    (["trainer.epoch=3"], "trainer.epoch is not a setting; did you mean trainer.epochs?"),
    (["dataset.nowhere=3"], "dataset.nowhere is not a setting; "),
    (["augmentation=reldrop_blok"], "augmentation=reldrop_blok is not a choice; did you mean reldrop_block?"),
    (["+experiment=cifar_resnt"], "experiment=cifar_resnt is not a choice; did you mean cifar_resnet?"),
    (["experiment=cifar_resnet"], "experiment is not chosen by default; choose it with +experiment=NAME"),
    (["dataset=null"], "dataset has no choice; set dataset=NAME, one of cifar10, "),
    (["trainer=3"], "trainer=3 is not a choice; set trainer=NAME, one of default"),
    (["+seed=3"], "seed is a setting already; leave out the +"),
    (["name"], "name is no setting; settings are KEY=VALUE"),
    (["name=a=b"], "name=a=b cannot be read ("),
    (["name=a=b"], "if it is one value, quote it: \"name='a=b'\""),
    (["name=exp [a]"], "quote it: \"name='exp [a]'\""),
    (["trainer.epochs=1,2"], "for several runs: -m trainer.epochs=1,2; for a list: trainer.epochs=[1,2]"),
    (["seed=[0,1]"], "seed=[0, 1] must be a whole number; for several runs: -m seed=0,1"),
    (["seed=-1"], "seed=-1 must be at least 0"),
    ([f"seed={2**63}"], f"seed={2**63} must be at most {2**63 - 1}"),
    (["name=${oc.env:NOWHERE}"], "the configuration does not resolve: "),
    (["launcher.qos=long"], "launcher=slurm 'launcher.slurm_additional_parameters={qos: VALUE}'"),
    (["hydra.launcher.partition=x"], "launcher=slurm 'launcher.slurm_additional_parameters={partition: VALUE}'"),
    (["launcher=slurm", "launcher.partition=x"], "did you mean launcher.slurm_partition?"),
    (["results_dir=/proc/nowhere"], "cannot write to run folder /proc/nowhere/"),
    (["-m", "results_dir=/proc/nowhere"], "cannot write to folder /proc/nowhere/hydra"),
    (["results_dir='~nobody-of-that-name/x'"], "~nobody-of-that-name/x leads to no folder"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_the_sentence_stands_alone(tmp_path: Path, sweep: Command, words: list[str], said: str) -> None:
    code, printed = sweep(tmp_path, *words)
    assert isinstance(code, str)
    assert code.startswith("error: ")
    assert said in code
    assert "\n" not in code
    assert printed.strip() == ""
    assert not (tmp_path / "results" / "runs").exists()


def test_paths_are_absolute_from_the_folder_of_the_command(
    tmp_path: Path, sweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for words in (["results_dir='~/x'"], ["results_dir=y", "hydra.job.chdir=true"], ["results_dir=2024"]):
        for mode in ([], ["-m"]):
            code, _ = sweep(tmp_path, *QUICK, "trainer.max_steps=1", *mode, *words)
            assert code == 0
            assert Path.cwd() == tmp_path
    found = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("summary.json"))
    assert [path.parts[0] for path in found] == ["2024", "home", "y"]
    assert {path.parent for path in tmp_path.rglob("*.log")} == {(tmp_path / path).parent for path in found}
    assert not list(tmp_path.rglob("~"))


@pytest.mark.parametrize("mode", [[], ["-m"], ["launcher=parallel"]])
def test_paths_with_any_characters(tmp_path: Path, sweep: Command, mode: list[str]) -> None:
    results = tmp_path / "it's [a], b=c é $"
    quoted = str(results).replace("'", r"\'")
    code, said = sweep(tmp_path, *QUICK, "trainer.max_steps=1", f"results_dir='{quoted}'", *mode)
    assert code == 0, said
    assert len([*results.glob("runs/*/*/*/summary.json")]) == 1
    assert all(path.stat().st_size for path in results.rglob("*.log"))


def test_a_backend_of_matplotlib_that_is_not_installed(tmp_path: Path) -> None:
    words = ["-m", "reldrop.train", "trainer.max_steps=1", f"results_dir={tmp_path}"]
    environment = {**ENVIRONMENT, "MPLBACKEND": "module://of_a_notebook.backend"}
    assert subprocess.run([sys.executable, *words], env=environment, timeout=120, check=False).returncode == 0
    assert "MPLBACKEND" not in os.environ

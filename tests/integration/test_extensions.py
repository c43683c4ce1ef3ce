"""Parts of one's own: the files of docs/extending.md, and those that reldrop.new writes, by the commands of their user."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from reldrop import new
from reldrop.command import _mistakes, find_own_parts
from reldrop.config import build
from reldrop.data import Files, ImageListing, image_dataset
from reldrop.plotting import examples
from reldrop.runs.checkpoint import Checkpoint, read_checkpoint
from reldrop.runs.environment import OWN_FOLDER
from reldrop.train import check
from reldrop.training.contracts import check_attribution, check_augmentation, check_backbone
from reldrop.utils.errors import ReldropError
from tests.helpers.extending import FILES, PAGE, write_parts
from tests.helpers.paths import ROOT
from tests.helpers.runs import assert_same_run, config, metrics, write_images

OWN = ["dataset=stripes", "backbone=small_net", "attribution=smooth_grad", "monitor=entropy"]
QUICK = ["trainer.epochs=2", "trainer.batch_size=50"]
ARMS = ["augmentation=grid_mask,reldrop_block", "seed=0,1"]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the parts, from which they can be imported."""
    monkeypatch.syspath_prepend(write_parts(tmp_path))
    return tmp_path


def own_config(parts: Path, *overrides: str) -> DictConfig:
    return config(parts, f"hydra.searchpath=[file://{parts}]", *OWN, *overrides)


def test_the_page_has_a_file_and_a_choice_for_each_kind_of_part() -> None:
    choices = {"augmentation/grid_mask", "attribution/smooth_grad", "dataset/stripes", "backbone/small_net"}
    choices = {f"{choice}.yaml" for choice in choices | {"monitor/entropy"}}
    assert set(FILES) == choices | {f"{Path(choice).stem}.py" for choice in choices}
    commands = [line.split() for line in PAGE.read_text().splitlines() if line.startswith("python -m reldrop.train -m")]
    assert set(commands[0][6:]) == {*OWN, *ARMS}  # the ones tested below


def test_parts_of_ones_own_keep_their_promises(parts: Path) -> None:
    cfg = own_config(parts, "augmentation=grid_mask")
    check(cfg)
    data = build(cfg, "dataset")
    model = build(cfg, "backbone", **data.model_kwargs)
    inputs, targets = (part[:2] for part in next(data.train_batches(0, batch_size=32, seed=0))[:2])
    check_backbone(model, inputs, data.num_classes)
    check_augmentation(build(cfg, "augmentation", **data.augmentation_kwargs), inputs, data.num_classes)
    check_attribution(build(cfg, "attribution"), model, inputs, targets)
    hidden, _ = build(cfg, "augmentation")(torch.ones(1, 1, 16, 16), targets[:1])
    assert hidden.mean() == 0.75  # a quarter of each square of 8 pixels


@pytest.mark.parametrize(("name", "drawn"), [("grid_mask", ["grid mask"]), ("none", []), ("reldrop_pixel", [])])
def test_an_own_augmentation_is_drawn_beside_ours(
    parts: Path, monkeypatch: pytest.MonkeyPatch, name: str, drawn: list[str]
) -> None:
    cfg = own_config(parts, f"augmentation={name}")
    checkpoint = Checkpoint(parts / "last.pt", cfg, {}, 1)
    monkeypatch.setattr(examples, "occlusion_figure", lambda *arguments: list(arguments[3]))
    titles = examples.checkpoint_figure(checkpoint, build(cfg, "dataset"), None, None)
    assert titles == [*drawn, "random erasing", "RelDrop-block", "RelDrop-patch", "RelDrop-pixel"]


def test_files_are_read_like_those_of_other_data_sets(tmp_path: Path) -> None:
    write_images(tmp_path, {"train": 3, "test": 2}, classes=2, size=20)

    @image_dataset
    def own(root: str) -> ImageListing:
        splits = []
        for split in ("train", "test"):
            paths = sorted(Path(root, split).glob("*/*.png"))
            splits.append(
                Files([str(path) for path in paths], torch.tensor([int(path.parent.name[-1]) for path in paths]))
            )
        return ImageListing("own", ("zero", "one"), *splits, "files", 16)

    data = own(root=str(tmp_path), mean=[0.5] * 3, std=[0.3] * 3)
    assert [batch.inputs.shape for batch in data.eval_batches("test", batch_size=4)] == [(4, 3, 16, 16)]
    assert len(data.train) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid_mask.py": "import nothing_of_that_name\n"}, "No module named 'nothing_of_that_name' .*grid_mask.py, line 1"),
        ({"grid_mask.py": "class GridMask:\n    pass ss\n"}, "SyntaxError: invalid syntax .*grid_mask.py, line 2"),
        ({"augmentation/grid_mask.yaml": "name: grid_mask\n_target_: gridmask.GridMask\n"},
         "in the folder of gridmask.py, or put that on PYTHONPATH"),
        ({"augmentation/grid_mask.yaml": "_target_: grid_mask.GridMask\n"},
         "augmentation has no name.*; add a line name: NAME"),
        ({"augmentation/grid_mask.yaml": "name: grid_mask\n_target_: grid_mask.Grid\n"}, "has no attribute 'Grid'"),
        ({"augmentation/grid_mask.yaml": "name: grid_mask\n_target_: grid_mask.GridMask\nperiods: 3\n"},
         "augmentation.periods is not a setting; did you mean augmentation.period?"),
        ({"stripes.py": "def stripes(size):\n    pass\n"}, "stripes.stripes makes no data set; .* with @image_dataset"),
        ({"smooth_grad.py": "class SmoothGrad:\n    def __init__(self, samples, noise):\n        {}[samples]\n"},
         r"attribution \(smooth_grad.SmoothGrad\) cannot be built: KeyError: 4 \(.*smooth_grad.py, line 3"),
    ],
)  # fmt: skip
def test_mistakes_in_own_files_are_named(
    parts: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], message: str
) -> None:
    for name, text in wrong.items():
        (parts / name).write_text(text)
    for module in ("grid_mask", "smooth_grad", "stripes"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ReldropError, match=message):
        check(own_config(parts, "augmentation=grid_mask"))


def test_an_error_in_own_code_is_named_before_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, _mistakes("train", "go on"):
        {}["own"]
    sentence, first, *_ = str(stop.value.code).splitlines()
    assert re.fullmatch(r"error: your own code fails: KeyError: 'own' \(.*test_extensions.py, line \d+\)", sentence)
    assert "test_extensions.py" in first


def test_a_file_that_is_no_yaml_is_named_with_its_line(
    tmp_path: Path, sweep: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OWN_FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "augmentation" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("name: mine\n_target_: [\n")
    code, _ = sweep(tmp_path, "--config-dir", str(tmp_path), "augmentation=mine")
    assert str(code).startswith(f"error: {file}, line 3, is no YAML: ")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["seed=1", "-m", "--config-dir", "own", "name=a"], ["--config-dir=HERE/own", "-m", "seed=1", "name=a"]),
        (["seed=1", "-cd=own"], ["--config-dir=HERE/own", "seed=1"]),
        (["seed=1", "--multirun"], ["--multirun", "seed=1"]),
    ],
)
def test_own_folders_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], found: list[str]
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    monkeypatch.setattr(os, "environ", {"PYTHONPATH": "/before"})
    found = [word.replace("HERE", str(tmp_path)) for word in found]
    assert find_own_parts(words) == found
    folders = [str(tmp_path), str(tmp_path / "own")][: 2 if "own" in str(words) else 1]
    assert sys.path == ["/usr/lib", *folders]
    assert os.environ["PYTHONPATH"] == ":".join(["/before", *folders])
    assert find_own_parts(["seed=1"])[:-1] == [word for word in found if word.startswith("--config")]  # by a child


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, "--config-dir .*own is no folder"),
        ("dataset/digits.yaml", "digits.yaml has the name of a choice of this package"),
    ],
)
def test_wrong_own_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, message: str
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(os, "environ", {})
    if file is not None:
        (tmp_path / "own" / file).parent.mkdir(parents=True)
        (tmp_path / "own" / file).write_text("name: digits\n")
    with pytest.raises(ReldropError, match=message):
        find_own_parts(["--config-dir", str(tmp_path / "own")])


@pytest.mark.parametrize("part", new.GROUPS)
def test_what_new_writes_passes_its_own_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    name = f"own_{part}_0"
    new.write(part, name, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tests = vars(importlib.import_module(f"test_{name}"))
    found = [test for key, test in tests.items() if key.startswith("test_")]
    assert found
    for test in found:
        test()


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("augmentatoin", "mine", "augmentatoin is no part; did you mean augmentation"),
        ("dataset", "My-Set", "NAME=My-Set must be a name in Python"),
        ("dataset", "class", "NAME=class must be"),
        ("augmentation", "reldrop_block", "NAME=reldrop_block is the name of a choice of augmentation"),
        ("metric", "json", "or of a Python module"),
        ("metric", "mine", "mine.py exists already"),
    ],
)
def test_new_overwrites_and_hides_nothing(tmp_path: Path, part: str, name: str, message: str) -> None:
    (tmp_path / "mine.py").write_text("of the user\n")
    with pytest.raises(ReldropError, match=message):
        new.write(part, name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert (tmp_path / "mine.py").read_text() == "of the user\n"


def run(folder: Path, command: str, *words: str) -> str:
    """Run a command in a folder as its user does, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = (sys.executable, "-m", f"reldrop.{command}", *words)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the parts, and the runs of two arms with two seeds each."""
    folder = write_parts(tmp_path_factory.mktemp("own"))
    assert "4 runs: 4 finished" in run(folder, "train", "-m", "--config-dir", ".", *OWN, *QUICK, *ARMS)
    return folder


def runs(folder: Path, augmentation: str = "*", seed: str = "*") -> list[Path]:
    return sorted(folder.glob(f"results/runs/stripes_small_net/{augmentation}/seed{seed}-*"))


@pytest.mark.slow
def test_own_parts_are_trained_under_their_names(swept: Path) -> None:
    assert len(runs(swept)) == 4
    for folder in runs(swept):
        record = metrics(folder)[-1]
        assert {"train/entropy", "test/entropy"} <= record.keys()
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["test/entropy"] == record["test/entropy"]
        assert summary["dataset"] == "stripes"


@pytest.mark.slow
def test_a_killed_run_of_own_parts_goes_on(swept: Path, tmp_path: Path) -> None:
    words = ["--config-dir", str(swept), *OWN, *QUICK, "augmentation=grid_mask", "seed=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reldrop.train", *words, "monitor.checkpoint_every_steps=1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("results/runs/stripes_small_net/grid_mask/*/last.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (killed,) = runs(tmp_path)
    assert not (killed / "summary.json").exists()
    assert "resuming after" in run(tmp_path, "train", *words)
    assert_same_run(killed, *runs(swept, "grid_mask", "1"))


@pytest.mark.slow
def test_own_parts_are_evaluated_drawn_and_tabulated(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *_) = runs(swept, "grid_mask")
    options = ["attribution=smooth_grad", "limit=20", "suite.steps=4", "suite.blocks=[0.2]", "figures=false"]
    run(swept, "evaluate", "--config-dir=.", f"run={first}", *options)
    assert json.loads((first / "evaluation.json").read_text())["settings"]["attribution"]["name"] == "smooth_grad"
    assert run(swept, "figures", "--config-dir=.", f"run={first}").endswith("examples.png\n")
    monkeypatch.delenv("RELDROP_OWN_PARTS", raising=False)
    with pytest.raises(
        ReldropError, match=r"no part of this package, and is not imported; .* give --config-dir=FOLDER"
    ):
        read_checkpoint(first)
    table = run(swept, "tables", "results", "metric=test/top1,test/entropy")
    assert "test entropy (nats)" in table
    assert f"python -m reldrop.train -m --config-dir {swept} dataset=stripes" in table  # of baselines without runs
    assert "experiment stripes_small_net, dataset stripes, backbone small_net" in table
    assert {"grid_mask", "reldrop_block"} <= {line.split(" ")[0] for line in table.splitlines()}


@pytest.mark.slow
def test_all_that_new_writes_trains_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in new.GROUPS:
        monkeypatch.setattr(sys, "argv", ["new", part, f"my_{part}"])
        new.command()
    lines = capsys.readouterr().out.splitlines()
    commands = [line.partition("python -m reldrop.train ")[2].split() for line in lines if "reldrop.train" in line]
    chosen = [words[-1] for words in commands]
    assert all(words[:-1] == ["--config-dir", "."] for words in commands)
    run(tmp_path, "train", "--config-dir", ".", *chosen, "trainer.epochs=1")
    (folder,) = tmp_path.glob("results/runs/my_dataset_my_backbone/my_augmentation/seed0-*")
    assert metrics(folder)[-1]["test/my_metric"] > 0

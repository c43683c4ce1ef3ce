"""The entry point."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from reldrop.attribution import rules
from reldrop.config import CONFIG_PATH
from reldrop.evaluate import evaluate
from reldrop.reporting.comparison import contest_of
from reldrop.train import train
from reldrop.utils.errors import ReldropError

DIGITS = ["trainer.epochs=1", "dataset.subset=300", "dataset.test_subset=60", "trainer.train_eval_samples=50"]


QUICK = ["suite.steps=4", "suite.random_draws=1", "suite.blocks=[0.1,0.3]", "suite.block_draws=1", "limit=30"]


def make_run(results: Path, *overrides: str) -> Path:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", [f"results_dir={results}", *DIGITS, *overrides])
    train(cfg)
    seed = next(word for word in [*overrides, "seed=0"] if word.startswith("seed=")).replace("=", "")
    (folder,) = (results / "runs" / "digits_resnet" / cfg.augmentation.name).glob(f"{seed}-*")
    return folder


def config(results: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose("evaluate", [f"results_dir={results}", "machine.accelerator=cpu", *QUICK, *overrides])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms with two seeds each."""
    results = tmp_path_factory.mktemp("results")
    for augmentation in ("none", "reldrop_block"):
        for seed in (0, 1):
            make_run(results, f"augmentation={augmentation}", f"seed={seed}", "monitor.keep_every_epochs=1")
    return results


def some_run(runs: Path) -> Path:
    return sorted((runs / "runs" / "digits_resnet" / "none").iterdir())[0]


def test_one_run(runs: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    folder = some_run(runs)
    (first,) = evaluate(config(runs, f"run={folder}"))
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["clean"]["top1"] == first.figures["clean"]["top1"]
    assert written["augmentation"] == "none"
    assert str(runs) not in (folder / "evaluation.json").read_text()
    assert "area, most relevant first" in capsys.readouterr().out
    with np.load(folder / "evaluation.npz") as arrays:
        assert arrays["curves/most/correct"].shape == (30, 5)
        assert arrays["blocks/center/probability"].shape == (30, 2)
    for name in ("occlusion_accuracy", "occlusion_probability", "blocks", "reliability", "examples"):
        assert (folder / f"{name}.png").stat().st_size > 5000
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(folder.glob(".*.tmp"))

    caplog.set_level(logging.INFO)
    before = (folder / "evaluation.npz").stat().st_mtime_ns
    evaluate(config(runs, f"run={folder}"))
    assert "evaluated before" in caplog.text
    assert (folder / "evaluation.npz").stat().st_mtime_ns == before
    (folder / "evaluation.npz").write_bytes(b"cut off")  # a damaged one is made anew
    (again,) = evaluate(config(runs, f"run={folder}", "figures=false"))
    assert again.figures == first.figures
    (other,) = evaluate(config(runs, f"run={folder}", "attribution=random", "figures=false"))
    assert other.figures["curves"] != first.figures["curves"]
    assert other.figures["clean"] == first.figures["clean"]


def test_a_checkpoint_file(runs: Path, tmp_path: Path) -> None:
    folder = some_run(runs)
    (tmp_path / "weights.pt").write_bytes((folder / "epoch0001.pt").read_bytes())
    options = [f"run={tmp_path / 'weights.pt'}", "figures=false"]
    with pytest.raises(ReldropError, match=r"config\.yaml not found"):
        evaluate(config(runs, *options))
    (one,) = evaluate(config(runs, *options, f"config={folder / 'config.yaml'}"))
    (other,) = evaluate(config(runs, f"run={folder}", "figures=false", "force=true"))
    assert one.figures["curves"] == other.figures["curves"]
    assert (tmp_path / "evaluation.json").is_file()


def test_arms_are_compared_in_pairs(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluations = evaluate(config(runs, f"run={runs}/runs/digits_resnet/*/seed*", f"output={tmp_path / 'out'}"))
    assert len(evaluations) == 4
    place = tmp_path / "out" / "digits_resnet-resnet_tiny"
    text = (place / "comparison.md").read_text()
    assert text.strip() in capsys.readouterr().out
    by_arm = {
        name: [one.figures["clean"]["top1"] for one in evaluations if one.figures["augmentation"] == name]
        for name in ("none", "reldrop_block")
    }
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert cells[1] == "test accuracy (%)"
    assert cells[2] == f"{100 * np.mean(by_arm['none']):.2f} ± {100 * np.std(by_arm['none'], ddof=1):.2f} (n=2)"
    assert cells[4] == f"{100 * (np.mean(by_arm['reldrop_block']) - np.mean(by_arm['none'])):+.2f} (n=2)"
    record = json.loads((place / "comparison.json").read_text())
    assert set(record["arms"]["none"]) == {"0", "1"}
    for name in ("occlusion_accuracy", "occlusion_probability", "blocks", "reliability", "metrics"):
        assert (place / f"{name}.png").stat().st_size > 5000
        assert (place / f"{name}.pdf").is_file()


def test_settings_of_one_augmentation_are_told_apart(runs: Path, tmp_path: Path) -> None:
    evaluations = []
    (found,) = evaluate(config(runs, f"run={some_run(runs)}", "figures=false"))
    for attribution in ("gradient", "random"):
        folder = tmp_path / attribution
        folder.mkdir()
        with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
            cfg = compose("train", ["augmentation=reldrop_block", f"attribution={attribution}"])
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        evaluations.append(replace(found, folder=folder, figures={**found.figures, "setting": attribution}))
    found = contest_of(evaluations).evaluations
    assert list(found) == [f"reldrop_block, attribution {name}" for name in ("gradient", "random")]
    assert [list(of_seed) for of_seed in found.values()] == [[0], [0]]
    for attribution in ("gradient", "random"):
        (tmp_path / attribution / "config.yaml").unlink()
    assert list(contest_of(evaluations).evaluations) == ["none, setting gradient", "none, setting random"]


def test_runs_without_a_checkpoint_are_left_out_of_a_comparison(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = runs / "runs" / "digits_resnet" / "none" / "seed9-00000000"
    empty.mkdir()
    try:
        with pytest.raises(ReldropError, match=r"no run folder with a checkpoint \(config\.yaml, last\.pt not found\)"):
            evaluate(config(runs, f"run={empty}"))
        options = [f"run={runs}/runs/digits_resnet/none/seed*", f"output={tmp_path}", "figures=false"]
        assert len(evaluate(config(runs, *options))) == 2
        assert "seed9-00000000" in caplog.text
    finally:
        empty.rmdir()


def test_mistakes(runs: Path, tmp_path: Path) -> None:
    folder = some_run(runs)

    def refused(message: str, *overrides: str) -> None:
        with pytest.raises(ReldropError, match=message):
            evaluate(config(runs, *overrides))

    refused("name what to evaluate")
    refused("run=nowhere leads to no folder", "run=nowhere")
    refused("model=NAME goes with suite=zero_shot", "model=resnet18")
    refused("did you mean suite.steps", f"run={folder}", "+suite.step=3")
    refused("did you mean attribution.epsilon", f"run={folder}", "+attribution.epsilo=3")
    refused("did you mean limit", f"run={folder}", "+limits=3")
    refused("steps=100 must be", f"run={folder}", "suite.steps=100")
    refused("fill=first is not for images", f"run={folder}", "suite.fill=first")
    refused(r"suite.blocks=\[2\] must be below 1", f"run={folder}", "suite.blocks=[2]")
    refused("regions", f"run={folder}", f"suite.regions={tmp_path / 'boxes.csv'}")
    state = torch.load(folder / "last.pt", weights_only=True)
    for name, change in (("cut.pt", b""), ("other.pt", None)):
        (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
        if change is None:
            state["model"] = {key.replace("layer1", "layer9"): value for key, value in state["model"].items()}
            torch.save(state, tmp_path / name)
        else:
            (tmp_path / name).write_bytes((folder / "last.pt").read_bytes()[:5000])
    refused(r"cut\.pt (is damaged|cannot be read) .*let the run write it again", f"run={tmp_path / 'cut.pt'}")
    refused("does not fit backbone resnet_tiny", f"run={tmp_path / 'other.pt'}")
    (tmp_path / "config.yaml").write_text("- no\n- mapping\n")
    refused(
        "is no configuration of a run|cannot be read", f"run={folder / 'last.pt'}", f"config={tmp_path / 'config.yaml'}"
    )


def test_an_attribution_that_is_unfit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, "augmentation=none")
    monkeypatch.delitem(rules.RULES, "batch_norm")
    with pytest.raises(ReldropError, match=r"attribution=gradient .* batch_norm has no rule"):
        evaluate(config(tmp_path, f"run={folder}"))
    assert not (folder / "evaluation.json").exists()


def test_metrics_of_occlusion_while_training(tmp_path: Path) -> None:
    options = ["trainer.epochs=2", "monitor.occlusion_every_epochs=2", "monitor.occlusion_samples=20"]
    folder = make_run(tmp_path, *options, "monitor.keep_every_epochs=2")
    first, second = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    keys = {f"occlusion/{name}" for name in ("most", "least", "random", "block_relevant", "block_random")} | {
        "attribution/gini"
    }
    assert not keys & first.keys()
    assert keys <= second.keys()
    assert all(0 <= second[f"occlusion/{order}"] <= 1 for order in ("most", "least", "random"))
    assert not (folder / "epoch0001.pt").exists()
    assert torch.load(folder / "epoch0002.pt", weights_only=True)["epoch"] == 2
    plain = make_run(tmp_path / "plain", "trainer.epochs=2", "monitor.occlusion_every_epochs=null")
    assert plain.name == folder.name  # it is the same run
    a, b = (torch.load(one / "last.pt", weights_only=True)["model"] for one in (folder, plain))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_mistakes_at_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reldrop.evaluate", f"results_dir={tmp_path / 'results'}"]
    mistakes = (
        ("run=nowhere", "leads to no folder"),
        ("limits=3", "did you mean limit?"),
        ("suit.steps=3", "did you mean suite.steps?"),
    )
    for override, message in mistakes:
        done = subprocess.run([*command, override], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr

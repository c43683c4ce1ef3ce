"""Tables and figures."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from reldrop.config import CONFIG_PATH
from reldrop.figures import draw
from reldrop.runs.identity import run_folder
from reldrop.train import train
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import POINTS, QUICK, config


def test_tables_and_figures_read_run_folders(tmp_path: Path) -> None:
    from reldrop.reporting.cells import Score
    from reldrop.reporting.formats import terminal
    from reldrop.reporting.layouts import table_of_settings
    from reldrop.reporting.records import read_runs

    for seed in (0, 1):
        cfg = config(tmp_path, *QUICK, f"seed={seed}")
        train(cfg)
    runs, remarks = read_runs(tmp_path / "results")
    assert not remarks
    assert [run.seed for run in runs] == [0, 1]
    lines = terminal(table_of_settings(runs, [Score("test/top1")], 0.95)).splitlines()
    row = next(line for line in lines if "reldrop_block" in line)
    mean = 50 * sum(run.figures["test/top1"] for run in runs)
    assert f"{mean:.2f} ±" in row
    folder = run_folder(cfg)
    assert draw(figures(folder)) == [folder / "examples.png"]
    assert (folder / "examples.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "examples.png").stat().st_size > 10_000
    (pdf,) = draw(figures(folder, f"output={tmp_path / 'new' / 'a.pdf'}", "samples=2"))
    assert pdf.read_bytes().startswith(b"%PDF")
    for kind in ("training", "examples"):  # of several runs
        (file,) = draw(figures(folder.parent / "seed*", f"kind={kind}", f"output={tmp_path / 'several'}", "samples=2"))
        assert file.stat().st_size > 10_000
    with pytest.raises(ReldropError, match="has no evaluation; run python -m"):
        draw(figures(folder, "kind=reliability"))
    with pytest.raises(ReldropError, match=r"nothing must end with \.png or"):
        draw(figures(folder, f"output={tmp_path / 'a.nothing'}"))
    cfg = config(tmp_path, *POINTS, "trainer.max_steps=1")
    train(cfg)
    assert draw(figures(run_folder(cfg)))[0].stat().st_size > 10_000
    with pytest.raises(ReldropError, match="no run folder"):
        draw(figures(tmp_path))
    with pytest.raises(ReldropError, match="samples=0 must be at least 1"):
        draw(figures(folder, "samples=0"))


def figures(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose("figures", [f"run={folder}", *overrides])

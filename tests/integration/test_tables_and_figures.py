"""Tables and figures."""

from pathlib import Path

import pytest

from reldrop.runs.identity import run_folder
from reldrop.train import train
from reldrop.utils.errors import ReldropError
from tests.helpers.runs import POINTS, QUICK, config


def test_tables_and_figures_read_run_folders(tmp_path: Path) -> None:
    from reldrop.figures import figure_of_run
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
    lines = terminal(table_of_settings(runs, [Score("test_top1")], 0.95)).splitlines()
    row = next(line for line in lines if "reldrop_block" in line)
    mean = 50 * sum(run.figures["test_top1"] for run in runs)
    assert f"{mean:.2f} ±" in row
    figure_of_run(run_folder(cfg)).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    cfg = config(tmp_path, *POINTS, "trainer.max_steps=1")
    train(cfg)
    figure = figure_of_run(run_folder(cfg))
    assert len(figure.axes) == 3 * 6  # relevance, random dropout and RelDrop of six clouds
    figure.savefig(tmp_path / "clouds.png")
    assert (tmp_path / "clouds.png").stat().st_size > 10_000
    with pytest.raises(ReldropError, match="no run folder"):
        figure_of_run(tmp_path)

"""docs/metrics.md lists all that a run logs, and nothing else."""

import re
from pathlib import Path

from reldrop.metrics.registry import METRICS
from reldrop.runs.reader import RunFolder
from reldrop.train import train
from tests.helpers.paths import ROOT
from tests.helpers.runs import QUICK, config

ROWS = [line for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")]
LISTED = {name for line in ROWS for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
OF_EVALUATIONS = {"samples", "images", "val_images"}


def test_every_metric_of_the_registry_is_listed() -> None:
    assert {key for key in METRICS if not re.search(r"[.*]", key)} - OF_EVALUATIONS == LISTED
    assert all(line.count("|") == 4 and line.split("|")[3].strip() for line in ROWS)  # name, meaning, range


def test_every_name_that_is_logged_is_listed(tmp_path: Path) -> None:
    cfg = config(tmp_path, *QUICK, "trainer.epochs=1", "augmentation=reldrop_block", "dataset.validation=0.2")
    cfg.monitor.log_every_steps = 2
    summary = train(cfg)
    (folder,) = (tmp_path / "results").glob("runs/*/*/seed*")
    run = RunFolder(folder)
    logged = {key for record in (*run.history(), *run.steps()) for key in record}
    assert logged | {key for key, value in summary.items() if isinstance(value, int | float)} == LISTED

"""Tables of finished runs, mean and deviation over seeds: python -m reldrop.tables [results]."""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from reldrop.errors import ReldropError
from reldrop.runs import identity, run_hash

COLUMNS = {
    "test_top1": "test, last",
    "best_test_top1": "test, best",
    "test_class_mean": "class mean, last",
    "best_test_class_mean": "class mean, best",
    "generalisation_gap": "train - test",
}


def finished_runs(results: Path) -> list[dict[str, Any]]:
    """Return the summary of each finished run under `results`, with what it was a run of.

    Raises:
        ReldropError: if there is none.
    """
    runs = []
    for path in sorted((results / "runs").glob("*/*/seed*/summary.json")):
        cfg = OmegaConf.load(path.parent / "config.yaml")
        label = {"experiment": cfg.name, "backbone": cfg.backbone.name, "augmentation": cfg.augmentation.name}
        without_seed = {key: value for key, value in identity(cfg).items() if key != "seed"}
        runs.append({**json.loads(path.read_text()), **label, "seed": cfg.seed, "setting": run_hash(without_seed)})
    if not runs:
        raise ReldropError(f"no finished runs under {results / 'runs'}; start one with python -m reldrop.train")
    return runs


def table(runs: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a row for each setting (all but the seed alike), accuracies in percent, mean and deviation."""
    groups = defaultdict(list)
    for run in runs:
        groups[(run["experiment"], run["backbone"], run["augmentation"], run["setting"])].append(run)
    header = ["experiment", "backbone", "augmentation", "setting", "steps", "seeds", *COLUMNS.values()]
    lines = [header, ["---"] * len(header)]
    order = {
        name: place for place, name in enumerate(("none", "random_erasing", "random_point_dropout", "reldrop_block"))
    }
    for key in sorted(groups, key=lambda key: (key[0], key[1], order.get(key[2], len(order)), key[2])):
        members = groups[key]
        steps = "/".join(sorted({str(run["steps"]) for run in members}))
        cells = [_mean_and_deviation([100 * run[column] for run in members if column in run]) for column in COLUMNS]
        lines.append([*key, steps, str(len(members)), *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _mean_and_deviation(values: list[float]) -> str:
    """The deviation is that of a sample (n - 1); one run has none. Without values (of older runs), nothing."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print a table of finished runs (accuracies in percent).")
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="the results_dir of the runs")
    try:
        print(table(finished_runs(parser.parse_args().results)))
    except ReldropError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

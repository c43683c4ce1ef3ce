"""Whether relevance in half precision ranks pixels as relevance in float32 does: python scripts/precision.py RUN [RUN ...].

For test samples of runs of reldrop.train: how often the most relevant pixel or point is the same (or near), and which share of
the most relevant 5 % are in both; as controls, float64 against float32, and relevance for another class.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.attribution import GradientLRP
from reldrop.runs.checkpoint import read_checkpoint
from reldrop.utils.errors import ReldropError

TOP = 0.05
NEAR = 2  # pixels; behind a stem with stride 2, all four pixels of a cell have nearly the same relevance


def agreement(one: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Return for maps (n, ...) whether their largest values are in the same place, or near, and how their top 5 % overlap."""
    places = [maps.flatten(1).argmax(1) for maps in (one, other)]
    found = {"same center": places[0] == places[1]}
    if one.ndim == 3:  # images
        rows, columns = (
            (change(places[0]) - change(places[1])).abs()
            for change in (lambda place: place // one.shape[2], lambda place: place % one.shape[2])
        )
        found[f"center within {NEAR} pixels"] = (rows <= NEAR) & (columns <= NEAR)
    count = max(1, round(TOP * one[0].numel()))
    chosen = [
        torch.zeros_like(maps.flatten(1), dtype=torch.bool).scatter_(1, maps.flatten(1).topk(count).indices, True)
        for maps in (one, other)
    ]
    found["top-5 % overlap"] = (chosen[0] & chosen[1]).sum(1) / count
    return {name: values.double() for name, values in found.items()}


def maps_of(model: nn.Module, inputs: Tensor, targets: Tensor, classes: int) -> dict[str, Tensor]:
    """Return relevance in each precision, and that of the next class."""
    attribution, device = GradientLRP(), inputs.device.type
    maps = {"float32": attribution(model, inputs, targets)}
    for dtype in (torch.bfloat16, torch.float16) if device == "cuda" else (torch.bfloat16,):
        with torch.autocast(device, dtype):
            maps[str(dtype).removeprefix("torch.")] = attribution(model, inputs, targets).float()
    maps["float64"] = attribution(model.double(), inputs.double(), targets).float()
    model.float()
    maps["float32, another class"] = attribution(model, inputs, (targets + 1) % classes)
    return maps


def measure(run: Path, data_dir: str | None, samples: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return mean agreements with float32 over test samples of a run.

    Raises:
        ReldropError: the run or its data cannot be read.
    """
    checkpoint = read_checkpoint(run)
    data = checkpoint.data(data_dir).to(device)
    model = checkpoint.network(**data.model_kwargs).to(device)
    found: dict[str, dict[str, list[Tensor]]] = {}
    batches = data.eval_batches("test", batch_size=64, limit=min(samples, len(data.test)))
    for inputs, targets, *_ in tqdm(batches, desc=checkpoint.run, leave=False):
        maps = maps_of(model, inputs, targets, data.num_classes)
        for precision, others in maps.items():
            for name, values in agreement(maps["float32"], others).items():
                found.setdefault(precision, {}).setdefault(name, []).append(values)
    return {
        precision: {name: torch.cat(values).mean().item() for name, values in figures.items()}
        for precision, figures in found.items()
        if precision != "float32"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--data", help="folder of the data sets; by default, where the runs had them")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    try:
        figures = {
            "/".join(run.resolve().parts[-3:]): measure(
                run, options.data, options.samples, torch.device(options.device)
            )
            for run in options.runs
        }
    except ReldropError as error:
        sys.exit(f"error: {error}")
    for run, rows in figures.items():
        names = next(iter(rows.values()))
        print(f"\n| {run} | {' | '.join(f'{name} (%)' for name in names)} |\n|{'---|' * (1 + len(names))}")
        for precision, row in rows.items():
            print(f"| {precision} | {' | '.join(f'{100 * value:.1f}' for value in row.values())} |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Speed, as ratios: python scripts/benchmark.py [images | points | input | start | reading | decoding | flipping].

images: a training step with each augmentation, as ratios to the plain step. points: likewise on point clouds, and the plain
step of PointNet++ as it is usually written (yardstick). input: batches of small images that are in memory, ours and those
of a DataLoader that crops, flips and erases image by image, alone and trained on. start: the training command until its
first step. reading: a point cloud from its text file and from the file of
prepared clouds; files are read several times, so that they come from the memory of the operating system. decoding: image
files decoded by a number of processes, by the loader with as many, and trained on. flipping: the occlusion curve of images
by the robustness suite, and by a plain loop over samples and steps.

The arms take turns, so that a machine that slows down slows them all; each figure is the median over the rounds. The floor
of RelDrop at p = 1 is what it cannot do without: the plain step, a forward pass in evaluation mode, and a plain gradient of
the target's logit to the input.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from benchmark_arms import image_arms, point_arms
from benchmark_decoding import ALONE, decoding_arms
from benchmark_flipping import BATCHED, flipping_arms
from benchmark_input import OURS, TRAINING, USUAL, input_arms
from benchmark_reading import CACHED, CACHED_SINGLY, DATASETS, FROM_TEXT, reading_arms
from benchmark_start import FIRST_STEP, start_arms
from tqdm import tqdm

from reldrop.utils.errors import ReldropError

# Settings of each subject that are reported with its figures.
SETTINGS = {
    "images": ("backbone", "size", "batch_size", "rounds"),
    "points": ("backbone", "points", "batch_size", "rounds"),
    "input": ("backbone", "size", "batch_size", "rounds", "samples", "workers"),
    "start": ("rounds",),
    "reading": ("dataset", "points", "batch_size", "rounds"),
    "decoding": ("backbone", "size", "batch_size", "rounds", "samples", "workers"),
    "flipping": ("backbone", "size", "batch_size", "rounds", "samples", "loop_samples", "steps"),
}
POINT_BACKBONES = ("pointnet", "pointnet2_ssg", "pointnet2_msg")


def interleaved(arms: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each arm in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for round_ in tqdm(range(rounds + 1), desc="rounds"):
        for name, work in arms.items():
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report_steps(seconds: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return a Markdown table and its figures, as ratios to the plain step; the floor is added."""
    # One forward pass in evaluation mode and the backward pass behind it are "forward and input gradient" together.
    parts = zip(seconds["plain step"], seconds["forward and input gradient"], strict=True)
    rows = {**seconds, "floor of RelDrop, p = 1": [a + b for a, b in parts]}
    figures = with_ratios(rows, "plain step")
    lines = ["| arm | median s | ratio to the plain step |", "|---|---|---|"]
    lines += [f"| {name} | {row['seconds']:.3f} | {row['ratio']:.3f} |" for name, row in figures.items()]
    relevance = with_ratios(seconds, "forward and input gradient")["attribution alone"]["ratio"]
    lines += ["", f"attribution alone: {relevance:.3f} times a forward pass and plain input gradient"]
    if "yardstick step" in figures:
        lines += ["", f"yardstick step: {figures['yardstick step']['ratio']:.2f} times the plain step"]
    return "\n".join(lines), figures


def report_reading(seconds: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return a Markdown table and its figures, as ratios to access in training batches."""
    figures = with_ratios(seconds, CACHED)
    lines = [f"| a cloud | median ms | ratio to {CACHED} |", "|---|---|---|"]
    lines += [f"| {name} | {1000 * row['seconds']:.4f} | {row['ratio']:.4g} |" for name, row in figures.items()]
    lines.append("")
    for name in (CACHED, CACHED_SINGLY):
        ratio = with_ratios(seconds, name)[FROM_TEXT]["ratio"]
        lines.append(f"{FROM_TEXT}: {ratio:.4g} times as long as {name}")
    return "\n".join(lines), figures


def report_input(seconds: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return a Markdown table and its figures, as ratios to the batches on the device, and what these take of training."""
    text, figures = report_items(OURS, "an image", seconds)
    faster = with_ratios(seconds, TRAINING.format(OURS))
    lines = [
        text,
        "",
        f"{OURS}: {faster[OURS]['ratio']:.2%} of the training that they are for",
        f"{TRAINING.format(USUAL)}: {faster[TRAINING.format(USUAL)]['ratio']:.2f} times as long as with {OURS}",
    ]
    return "\n".join(lines), figures


def report_items(reference: str, item: str, seconds: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return a Markdown table of the time of an item, and its figures, as ratios to the arm `reference`."""
    figures = with_ratios(seconds, reference)
    lines = [f"| {item} | median ms | a second | ratio to {reference} |", "|---|---|---|---|"]
    for name, row in figures.items():
        took = row["seconds"]
        lines.append(f"| {name} | {1000 * took:.4g} | {1 / took:.4g} | {row['ratio']:.3f} |")
    return "\n".join(lines), figures


REPORTS = {
    "images": report_steps,
    "points": report_steps,
    "input": report_input,
    "start": partial(report_items, FIRST_STEP, "the command"),
    "reading": report_reading,
    "decoding": partial(report_items, ALONE, "an image"),
    "flipping": partial(report_items, BATCHED, "an image"),
}


def with_ratios(rows: dict[str, list[float]], reference: str) -> dict[str, dict[str, float]]:
    """Return medians of seconds, and of ratios to the row `reference` within a round."""
    return {
        name: {
            "seconds": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, rows[reference], strict=True)),
        }
        for name, values in rows.items()
    }


def machine(device: torch.device) -> dict[str, str | int]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", default="images", choices=SETTINGS)
    parser.add_argument("--backbone", help=f"resnet18 by default; of points, {', '.join(POINT_BACKBONES)}")
    parser.add_argument("--size", type=int, default=32, help="of images, pixels")
    parser.add_argument("--points", type=int, default=1024, help="of a cloud")
    parser.add_argument("--batch-size", type=int, help="128 images or 16 clouds by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of training steps")
    parser.add_argument("--zennit", action="store_true", help="also time RelDrop with attribution by zennit")
    parser.add_argument("--dataset", default=DATASETS[0], choices=DATASETS, help="that is read")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("RELDROP_DATA", "data")),
        help="folder that holds the data set; $RELDROP_DATA, or data, by default",
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="images of an epoch, or whose curve is measured in batches"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of a loader")
    parser.add_argument("--train-split", default="train", choices=("train", "val"), help="images that are decoded")
    parser.add_argument("--loop-samples", type=int, default=50, help="those of them that the plain loop goes through")
    parser.add_argument("--steps", type=int, default=32, help="of an occlusion curve")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    images = options.subject in ("images", "input", "flipping", "decoding")
    options.batch_size = options.batch_size or (128 if images else 16)
    options.backbone = options.backbone or ("resnet18" if images else "pointnet2_ssg")
    if options.subject == "points" and options.backbone not in POINT_BACKBONES:
        parser.error(f"--backbone {options.backbone} is for images; points have {', '.join(POINT_BACKBONES)}")
    return options


def build(options: argparse.Namespace, device: torch.device) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return what is timed, and how many items each of it goes through, whose time is reported.

    Raises:
        ReldropError: the data are not there.
    """
    if options.subject == "reading":
        return reading_arms(options)
    if options.subject == "decoding":
        return decoding_arms(options, device)
    if options.subject == "flipping":
        return flipping_arms(options, device)
    if options.subject == "input":
        return input_arms(options, device)
    if options.subject == "start":
        return start_arms()
    arms = image_arms(options, device) if options.subject == "images" else point_arms(options, device)
    return arms, dict.fromkeys(arms, 1)


def main() -> None:
    options = parse_options()
    device = torch.device("cpu" if options.subject in ("reading", "start") else options.device)
    facts = {**machine(device), **{key: getattr(options, key) for key in SETTINGS[options.subject]}}
    try:
        arms, counts = build(options, device)
    except ReldropError as error:
        sys.exit(str(error))
    if options.subject == "reading":
        facts |= {"text_files": counts[FROM_TEXT], "cached_clouds": counts[CACHED_SINGLY]}
    passes = interleaved(arms, options.rounds, device)
    seconds = {name: [value / counts[name] for value in values] for name, values in passes.items()}
    text, figures = REPORTS[options.subject](seconds)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": facts, "figures": figures, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Peak memory of a training step with each augmentation, beyond network and data: python scripts/memory.py.

Each arm takes a few steps in a process of its own. On a GPU it is what torch had allocated at most; on the CPU it is what the
process had grown to at most, to which the allocator and libraries contribute.
"""

import argparse
import json
import multiprocessing
import resource
import sys
from pathlib import Path

import torch
from benchmark import machine
from benchmark_arms import image_arms

ARMS = (
    "plain step",
    "random erasing, p = 1",
    "RelDrop-block, p = 1",
    "RelDrop-block, p = 1, recycled",
    "RelDrop-block, p = 1, zennit",
)
STEPS = 3


def peak(arm: str, options: argparse.Namespace) -> int:
    """Return bytes beyond what network, optimizer and a batch take. To be called in a process of its own."""
    device = torch.device(options.device)
    work = image_arms(options, device)[arm]
    before = _most(device)
    for _ in range(STEPS):
        work()
    return _most(device) - before


def _most(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32, help="of images, pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    options.zennit = True
    peaks = {}
    for arm in ARMS:  # a process cannot forget how much it had
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[arm] = pool.apply(peak, (arm, options))
    facts = machine(torch.device(options.device))
    facts |= {key: getattr(options, key) for key in ("backbone", "size", "batch_size")}
    figures = {arm: {"bytes": value, "ratio": value / peaks[ARMS[0]]} for arm, value in peaks.items()}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"| arm | peak MB | ratio to the {ARMS[0]} |\n|---|---|---|")
    for arm, row in figures.items():
        print(f"| {arm} | {row['bytes'] / 1e6:.0f} | {row['ratio']:.3f} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

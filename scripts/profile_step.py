"""Where the time of a training step goes: python scripts/profile_step.py [images | points] [--arm "RelDrop-block, p = 1"].

torch.profiler over a few steps of one arm of scripts/benchmark.py: the operators with the most time of their own, without those
they call. --trace is for a timeline that chrome://tracing shows.
"""

import argparse
from pathlib import Path

import torch
from benchmark import machine
from benchmark_arms import image_arms, point_arms
from torch.profiler import ProfilerActivity, profile

STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", default="images", choices=("images", "points"))
    parser.add_argument("--arm", help="as scripts/benchmark.py calls it; RelDrop at p = 1 by default")
    parser.add_argument("--backbone", help="resnet18 or pointnet2_ssg by default")
    parser.add_argument("--size", type=int, default=32, help="of images, pixels")
    parser.add_argument("--points", type=int, default=1024, help="of a cloud")
    parser.add_argument("--batch-size", type=int, help="128 images or 16 clouds by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=12, help="operators to show")
    parser.add_argument("--output", type=Path, help="write the table to this file as well")
    parser.add_argument("--trace", type=Path, help="write the timeline to this file")
    options = parser.parse_args()
    images, options.zennit = options.subject == "images", True
    options.batch_size = options.batch_size or (128 if images else 16)
    options.backbone = options.backbone or ("resnet18" if images else "pointnet2_ssg")
    options.arm = options.arm or ("RelDrop-block, p = 1" if images else "RelDrop-point, p = 1")
    device = torch.device(options.device)
    arms = (image_arms if images else point_arms)(options, device)
    if options.arm not in arms:
        parser.error(f"--arm {options.arm} is none of {'; '.join(arms)}")
    work = arms[options.arm]
    work()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        for _ in range(STEPS):
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    facts = {**machine(device), "arm": options.arm, "steps": STEPS}
    facts |= {key: getattr(options, key) for key in ("backbone", "batch_size")}
    own = "device_time" if device.type == "cuda" else "cpu_time"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, f"self_{own}_total"))
    total = sum(getattr(event, f"self_{own}_total") for event in events)
    lines = [", ".join(f"{key} {value}" for key, value in facts.items()), ""]
    lines += ["| operator | calls a step | own ms a step | share (%) |", "|---|---|---|---|"]
    for event in events[: options.rows]:
        took = getattr(event, f"self_{own}_total")
        share = f"{event.count / STEPS:g} | {took / 1000 / STEPS:.1f} | {100 * took / total:.1f}"
        lines.append(f"| {event.key} | {share} |")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text)
    if options.trace:
        profiler.export_chrome_trace(str(options.trace))


if __name__ == "__main__":
    main()

"""Runs that are killed at random moments, beside the same runs left alone: python scripts/kill_loop.py [KILLS] [SEED].

Eight kinds of run take turns. Each is started, killed after a random time by SIGKILL, SIGTERM or SIGINT, and started again by
the same command, until it is finished. Every record of an epoch and of a step, and every weight, must then be that of the run
left alone, bit for bit, and nobody may be left behind. Anything else is printed, and the exit code is then 1.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reldrop.runs.reader import TIMING, RunFolder

SHORT = [
    "trainer.epochs=4",
    "monitor.occlusion_samples=4",
    "monitor.guidance_samples=4",
    "monitor.checkpoint_every_steps=3",
]
DIGITS = [*SHORT, "dataset.subset=400", "monitor.log_every_steps=2"]
CLOUDS = ["+experiment=shapes_pointnet", *SHORT, "dataset.subset=96", "dataset.test_subset=32", "trainer.batch_size=16"]
IMAGES = [*SHORT, "dataset=image_folder", "dataset.size=16", "trainer.batch_size=16", "augmentation=reldrop_patch"]
KINDS = {
    "block": [*DIGITS, "augmentation=reldrop_block", "backbone.drop_path=0.3"],
    "erasing": [*DIGITS, "augmentation=random_erasing", "optimizer=adamw", "optimizer.lr=1e-3"],
    "pixel": [*DIGITS, "augmentation=reldrop_pixel", "dataset.validation=0.2", "scheduler=step"],
    "ViT": [*DIGITS, "backbone=vit_micro", "optimizer.lr=0.02", "trainer.clip_grad_norm=1"],
    "recycled": [*DIGITS, "attribution=recycled"],
    "clouds": [*CLOUDS, "dataset.points=64", "augmentation=reldrop_point"],
    "quirk": [*CLOUDS, "dataset.points=64", "augmentation=reldrop_ball", "trainer.eval_after_attribution=true"],
    "streamed": [*IMAGES, "machine.memory_gb=1e-6", "machine.workers=2"],
}


def write_images(folder: Path) -> None:
    draws = np.random.default_rng(0)
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        for number in range(30):
            Image.fromarray(draws.integers(256, size=(20, 20, 3), dtype=np.uint8)).save(
                folder / f"{label}/{number}.png"
            )


def start(root: Path, name: str, options: list[str]) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own, with its output in a file."""
    words = [f"results_dir={root / name}", f"data_dir={root}", "machine.progress=false", *options]
    with (root / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "reldrop.train", *words], stdout=log, stderr=log, start_new_session=True
        )


def run_of(root: Path, name: str) -> RunFolder:
    (folder,) = (root / name).glob("runs/*/*/seed*")
    return RunFolder(folder)


def difference(one: RunFolder, other: RunFolder) -> str | None:
    """Return what two runs differ in, in a word; None if nothing."""
    a, b = ([{**r, **dict.fromkeys(TIMING)} for r in run.history()] for run in (one, other))
    if json.dumps(a) != json.dumps(b):
        return "metrics"
    if one.steps() != other.steps():
        return "steps"
    a, b = (torch.load(run.path / "last.pt", weights_only=True)["model"] for run in (one, other))
    same = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    return None if same else "weights"


def left_behind(group: int) -> bool:
    """Tell whether a process of a group is still there after ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return True


def kill_until_finished(root: Path, name: str, options: list[str], seconds: float, rng: random.Random) -> list[str]:
    """Run to the end with kills on the way; return what happened, word by word."""
    words: list[str] = []
    while True:
        process = start(root, name, options)
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        try:
            # Starting takes most of a short run: with each try it is given more time, so that it ends.
            code = process.wait((rng.uniform(0.3, 1.0) + len(words) / 10) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait(60)
            words.append(number.name)
        else:
            words.append(f"FAULT: exit code {code}" if code else "finished")
        if left_behind(process.pid):
            words.append("FAULT: processes left behind")
        if not words[-1].startswith("SIG"):
            return words


def main(kills: int = 50, seed: int = 0) -> int:
    """Kill until `kills` kills are done, and print what came of them; return 1 if a run was not the same."""
    rng, done, faults = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as base:
        root = Path(base)
        write_images(root / "pictures")
        kinds = {
            kind: [*words, *(["dataset.folder=pictures"] if kind == "streamed" else [])]
            for kind, words in KINDS.items()
        }
        seconds, number = {}, 0
        while done.total() < kills:
            kind = list(kinds)[number % len(kinds)]
            if kind not in seconds:
                begin = time.monotonic()
                if start(root, kind, kinds[kind]).wait():
                    sys.exit((root / f"{kind}.log").read_text())
                seconds[kind] = time.monotonic() - begin
            name = f"{kind}-{number}"
            words = kill_until_finished(root, name, kinds[kind], seconds[kind], rng)
            done.update(word for word in words if word.startswith("SIG"))
            if not words[-1].startswith("FAULT"):
                differs = difference(run_of(root, kind), run_of(root, name))
                words.append("same" if differs is None else f"FAULT: other {differs}")
            if words[-1].startswith("FAULT"):
                faults += 1
                print((root / f"{name}.log").read_text())
            print(f"{kind}: {', '.join(words)}", flush=True)
            number += 1
    print(
        f"{number} runs, {done.total()} kills ({', '.join(f'{n} {w}' for w, n in sorted(done.items()))}), {faults} faults"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

"""What the client of Weights & Biases sends of three arms and two seeds: python scripts/wandb_stand_in.py [KEY=VALUE ...].

A stand-in for the server listens on this machine; its two tables are printed: the runs, and the names in the history of one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from tests.helpers.wandb_server import serve  # noqa: E402

SWEEP = ["-m", "augmentation=none,random_erasing,reldrop_block", "seed=0,1", "trainer.epochs=5", "tracking=online"]
NO_PICTURES = "monitor.pictures_every_epochs=null"  # the stand-in keeps no artifacts, in which W&B files tables
SHOWN = ("test/top1", "test/best_top1", "occlusion/block_relevant", "occlusion/block_random")


def main(*words: str) -> None:
    """Train, and print what arrived."""
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        variables = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "reldrop.train", *SWEEP, NO_PICTURES, f"results_dir={folder}", *words]
        subprocess.run(command, env={**os.environ, **variables}, check=True, stdout=sys.stderr)
        columns = ["group", "job type", "`augmentation.name`", "seed", *(f"`{key}`" for key in SHOWN)]
        print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
        for run in server.runs.values():
            config = {key: entry.get("value") for key, entry in json.loads(run.sent["config"]).items()}
            what = [run.sent["groupName"], run.sent["jobType"], config["augmentation"]["name"], config["seed"]]
            print("|", " | ".join(map(str, [*what, *(f"{run.summary[key]:.4f}" for key in SHOWN)])), "|")
        counts = Counter(key for row in run.lines.values() for key in row if not key.startswith("_"))
        print("\n| name | rows |\n|---|---|")
        for key, count in sorted(counts.items()):
            print(f"| `{key}` | {count} |")
        print(f"\nFiles uploaded: {len(server.files)}")


if __name__ == "__main__":
    main(*sys.argv[1:])

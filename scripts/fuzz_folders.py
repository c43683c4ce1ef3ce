"""Odd folders of images and clouds, read as one's own: python scripts/fuzz_folders.py [COUNT] [SEED].

Folders of random layouts get random oddities: empty and cut files, links in circles, pipes, what systems leave behind, names
in other encodings. Each folder must give a data set with finite batches, or one sentence; anything else is printed, and
the exit code is then 1.
"""

import logging
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from reldrop import data
from reldrop.data import ImageData, PointData
from reldrop.utils.errors import ReldropError
from reldrop.utils.machine import Machine

OFF = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
PLY = "ply\nformat ascii 1.0\ncomment x\nelement vertex 2\n{}end_header\n0 0 1\n1 1 0\n".format(
    "".join(f"property float {axis}\n" for axis in "xyz")
)
SPLITS = {
    "CLASS": ["{c}"],
    "SPLIT/CLASS": ["train/{c}", "test/{c}"],
    "CLASS/SPLIT": ["{c}/train", "{c}/test"],
    "train only": ["train/{c}"],
    "with val": ["train/{c}", "val/{c}"],
    "test only": ["test/{c}"],
}
CLASSES = ["a", "b", "c d", "é", "$x$", "2024", "-", "null", "test"]


def write_item(path: Path, rng: random.Random) -> None:
    """Write an image of a random mode and shape, or a cloud."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(rng.randrange(1000))
    if path.suffix == ".txt":
        np.savetxt(path, draws.normal(size=(rng.randint(2, 20), 6)))
    else:
        pixels = draws.integers(256, size=(rng.randint(1, 20), rng.randint(1, 20), 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(rng.choice(["RGB", "L", "RGBA", "1", "P"])).save(path)


def shorten(folder: Path, rng: random.Random) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if files:
        path = rng.choice(files)
        path.write_bytes(path.read_bytes()[: rng.randint(0, 60)])


def oddities(suffix: str) -> dict[str, Callable[[Path, random.Random], object]]:
    """Return what may happen to a folder, by name."""
    numbers = [(3,), (4, 6), (0, 6), (4, 2)]
    return {
        "empty folder": lambda folder, rng: (folder / "empty").mkdir(),
        "empty file": lambda folder, rng: (folder / f"x{suffix}").write_bytes(b""),
        "random bytes": lambda folder, rng: (folder / f"x{suffix}").write_bytes(rng.randbytes(50)),
        "cut file": shorten,
        "pipe": lambda folder, rng: os.mkfifo(folder / f"pipe{suffix}"),
        "link to above": lambda folder, rng: (folder / "loop").symlink_to(folder.parent),
        "link to itself": lambda folder, rng: (folder / f"self{suffix}").symlink_to(folder / f"self{suffix}"),
        "broken link": lambda folder, rng: (folder / f"gone{suffix}").symlink_to("/nowhere"),
        "thumbnails": lambda folder, rng: write_item(folder / "@eaDir" / f"x{suffix}", rng),
        "Thumbs.db": lambda folder, rng: (folder / "Thumbs.db").write_text("x"),
        ".DS_Store": lambda folder, rng: (folder / ".DS_Store").write_text("x"),
        "folder like a file": lambda folder, rng: (folder / f"folder{suffix}").mkdir(),
        "long name": lambda folder, rng: (folder / ("n" * 200)).mkdir(),
        "name in Latin-1": lambda folder, rng: os.mkdir(os.fsencode(folder) + b"/caf\xe9"),
        "new line in a name": lambda folder, rng: write_item(folder / f"a\nb{suffix}", rng),
        "mesh": lambda folder, rng: (folder / "x.off").write_text(OFF[: rng.randint(0, len(OFF))]),
        "ply": lambda folder, rng: (folder / "x.ply").write_text(PLY[: rng.randint(0, len(PLY))]),
        "array": lambda folder, rng: np.save(folder / "x.npy", np.zeros(rng.choice(numbers))),
        "integers": lambda folder, rng: Image.fromarray(np.zeros((5, 5), np.int32)).save(folder / "x.tif"),
        "long image": lambda folder, rng: Image.fromarray(np.zeros((1, 3000), np.uint8)).save(folder / "x.png"),
        "tiny cloud": lambda folder, rng: (folder / f"t{suffix}").write_text("1e-300 0 0 0 0 1\n2e-300 0 0 0 0 1\n"),
    }


def make(base: Path, suffix: str, rng: random.Random) -> list[str]:
    """Make a folder, and return what it is made of."""
    layout = rng.choice(list(SPLITS))
    for name in rng.sample(CLASSES, rng.randint(1, 4)):
        for place in SPLITS[layout]:
            for number in range(rng.randint(1, 4)):
                write_item(base / place.format(c=name) / f"{number}{suffix}", rng)
    folders = sorted(path for path in [base, *base.rglob("*")] if path.is_dir())
    chosen = rng.sample(list(oddities(suffix).items()), rng.randint(0, 3))
    for _, happen in chosen:
        happen(rng.choice(folders), rng)
    return [layout, *(name for name, _ in chosen)]


def load(base: Path, suffix: str, rng: random.Random) -> ImageData | PointData:
    machine = Machine(base.parent, workers=0, progress=False)
    if suffix == ".txt":
        return data.point_folder(folder=base.name, points=8, normals=rng.random() < 0.5, machine=machine)
    gray, half = rng.random() < 0.3, [0.5] * 3
    return data.image_folder(folder=base.name, size=8, mean=half, std=half, grayscale=gray, machine=machine)


def main(count: int = 80, seed: int = 0) -> int:
    """Read `count` folders and print what came of them; return 1 if something was neither data nor a sentence."""
    logging.getLogger("reldrop").setLevel(logging.CRITICAL)
    results: Counter[str] = Counter()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        suffix = rng.choice([".png", ".txt"])
        with tempfile.TemporaryDirectory() as root:
            made = make(Path(root, "set"), suffix, rng)
            try:
                found = load(Path(root, "set"), suffix, rng)
                assert found.model_kwargs["num_classes"] > 1
                assert next(found.train_batches(0, batch_size=4, seed=0)).inputs.isfinite().all()
                results["data"] += 1
            except ReldropError as error:
                results["sentence"] += 1
                print(f"{number} ({', '.join(made)}): {str(error).replace(root, '')}")
            except Exception:
                results["fault"] += 1
                print(f"{number} ({', '.join(made)}): FAULT\n{traceback.format_exc()}")
    print(", ".join(f"{what}: {results[what]}" for what in ("data", "sentence", "fault")))
    return 1 if results["fault"] else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

"""Zero shot."""

from pathlib import Path

import numpy as np
from PIL import Image

from reldrop.evaluation import imagenet_classes
from reldrop.evaluation.zero_shot import ZeroShot

SUITE = ZeroShot("imagenet-a", "imagenet-r", "imagenet-o", ["imagenet/val"])


def picture(label: int) -> Image.Image:
    draws = np.random.default_rng(label)
    return Image.fromarray(draws.integers(256, size=(40 + label % 7, 50, 3), dtype=np.uint8))


def write_images(folder: Path, wnids: tuple[str, ...], count: int = 2) -> None:
    for index, wnid in enumerate(wnids):
        (folder / wnid).mkdir(parents=True)
        for number in range(count):
            picture(index * 10 + number).save(folder / wnid / f"{number}.png")


def write_sets(root: Path, classes: int = 3) -> None:
    for name in imagenet_classes.SETS:
        write_images(root / name.replace("_", "-"), imagenet_classes.class_wnids(name)[:classes])
    shared = {*imagenet_classes.class_wnids("imagenet_r"), *imagenet_classes.class_wnids("imagenet_o")}
    write_images(root / "imagenet" / "val", tuple(sorted(shared)[:classes]), 1)

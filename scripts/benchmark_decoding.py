"""What scripts/benchmark.py times of image files: decoding alone, the loader of training batches, and training on them."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from benchmark_arms import go_through, relevance_of, train_step
from omegaconf import OmegaConf

from reldrop.attribution import GradientLRP
from reldrop.augmentation import NoAugmentation, RelDropBlock
from reldrop.backbones import timm_model
from reldrop.data import imagenet
from reldrop.data.images.crops import RandomResizedCrop
from reldrop.data.images.decoding import decode

ALONE, LOADER = "decoding alone", "loader"


def decoding_arms(
    options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return what is timed, and how many images each of it goes through.

    Decoding alone has as many processes as the loader; what they decode stays with them.

    Raises:
        ReldropError: there are no images.
    """
    config = OmegaConf.load(Path(__file__).parents[1] / "conf" / "dataset" / "imagenet.yaml")
    settings = {"root": str(options.data), "workers": options.workers, "subset": options.samples, "test_subset": 1}
    settings |= {"size": options.size, "eval_resize": options.size, "train_split": options.train_split}
    config = OmegaConf.to_container(OmegaConf.merge(config, settings))
    data = imagenet(**{key: value for key, value in config.items() if key != "_target_"}).to(device)
    crop, paths = data.train.crop, data.train.paths
    draws = crop.draw(len(paths), torch.Generator().manual_seed(0))
    pool = ProcessPoolExecutor(options.workers)
    parts = [range(start, len(paths), options.workers) for start in range(options.workers)]
    work = [([paths[index] for index in part], draws[list(part)]) for part in parts]
    model = timm_model(options.backbone, num_classes=len(data.classes), size=options.size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    step = partial(train_step, model, optimizer)
    occlude, attribution = RelDropBlock(probability=0.5), GradientLRP()
    epoch = partial(data.train_batches, 0, batch_size=options.batch_size, seed=0)
    arms = {
        ALONE: partial(_decode_alone, pool, crop, options.size, work),
        LOADER: partial(go_through, epoch),
        "training, none": partial(go_through, epoch, partial(step, NoAugmentation(), None)),
        "training, RelDrop-block, p = 0.5": partial(
            go_through, epoch, lambda *batch: step(occlude, relevance_of(attribution, model, *batch), *batch)
        ),
    }
    return arms, dict.fromkeys(arms, len(paths))


def _decode_alone(
    pool: ProcessPoolExecutor, crop: RandomResizedCrop, size: int, work: Sequence[tuple[list[str], object]]
) -> None:
    list(pool.map(partial(_decode_some, crop, size), *zip(*work, strict=True)))


def _decode_some(crop: RandomResizedCrop, size: int, paths: Iterable[str], draws: Iterable[Sequence[float]]) -> None:
    torch.set_num_threads(1)
    for path, numbers in zip(paths, draws, strict=True):
        decode(path, size, partial(crop, draws=numbers))

"""What scripts/benchmark.py times of image files: decoding alone, the loader of training batches, and training on them."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from benchmark_arms import go_through, relevance_of, train_step
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reldrop.attribution import GradientLRP
from reldrop.augmentation import NoAugmentation, RelDropBlock
from reldrop.backbones import timm_model
from reldrop.config import CONFIG_PATH
from reldrop.data import imagenet
from reldrop.data.images.crops import RandomResizedCrop
from reldrop.data.images.decoding import decode
from reldrop.utils.machine import Machine

ALONE, LOADER = "decoding alone", "loader"


def decoding_arms(
    options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return what is timed, and how many images each of it goes through.

    Decoding alone has as many processes as the loader; what they decode stays with them.

    Raises:
        ReldropError: there are no images.
    """
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["dataset=imagenet"]).dataset)
    config |= {"size": options.size, "eval_resize": options.size, "train_split": options.train_split}
    config |= {"subset": options.samples, "test_subset": 1}
    machine = Machine(data_dir=options.data, workers=options.workers)
    data = imagenet(**{key: value for key, value in config.items() if key != "_target_"}, machine=machine).to(device)
    crop, paths = data.train.reading.crop, data.train.paths
    pool = ProcessPoolExecutor(options.workers)
    parts = [range(start, len(paths), options.workers) for start in range(options.workers)]
    work = [([paths[index] for index in part], part) for part in parts]
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
    pool: ProcessPoolExecutor, crop: RandomResizedCrop, size: int, work: Sequence[tuple[list[str], range]]
) -> None:
    list(pool.map(partial(_decode_some, crop, size), *zip(*work, strict=True)))


def _decode_some(crop: RandomResizedCrop, size: int, paths: Iterable[str], seeds: Iterable[int]) -> None:
    torch.set_num_threads(1)
    for path, seed in zip(paths, seeds, strict=True):
        decode(path, size, partial(crop, seed=seed))

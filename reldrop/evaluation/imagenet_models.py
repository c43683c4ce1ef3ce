"""What the zero-shot suite takes: networks for the 1,000 classes of ImageNet, of a run or of timm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.data.images.crops import CenterCrop
from reldrop.data.images.dataset import ImageSplit
from reldrop.data.images.decoding import DecodeOptions, StreamedImages
from reldrop.data.images.folders import Files
from reldrop.data.images.imagenet_labels import read_wnids
from reldrop.evaluation.imagenet_classes import synsets
from reldrop.evaluation.preprocessing import Preprocessing, of_timm, standard
from reldrop.evaluation.zero_shot import Predict
from reldrop.runs.reader import read_checkpoint
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import unknown


@dataclass(frozen=True)
class EvalModel:
    """A network for the 1,000 classes of ImageNet, what it is called in reports, and what it makes of an image first."""

    name: str
    network: nn.Module
    preprocessing: Preprocessing


def of_run(path: Path, checkpoint: str, config: Path | None, preprocessing: str) -> EvalModel:
    """Return the network of a run on the 1,000 classes of ImageNet, with a checkpoint's weights.

    Args:
        path, checkpoint, config: see `read_checkpoint`.
        preprocessing: "standard", or "own": as the run has its test images.

    Raises:
        ReldropError: there is no such run, it was on other classes, or its files are damaged.
    """
    trained = read_checkpoint(path, checkpoint, config)
    data = trained.cfg.dataset
    if data["_target_"] != "reldrop.data.imagenet" or not _all_classes(data, str(trained.cfg.data_dir)):
        raise ReldropError(
            f"{path} is a run on {data.name}; this suite takes networks for the 1,000 classes of ImageNet"
        )
    network = trained.network(num_classes=len(synsets()), channels=3, size=data.size)
    seen = standard(data.mean, data.std)
    if preprocessing == "own":
        frame = CenterCrop(data.eval_resize, data.interpolation)
        seen = Preprocessing(frame, data.size, tuple(data.mean), tuple(data.std))
    return EvalModel(trained.name, network, seen)


def of_timm_model(name: str, weights: str | None, preprocessing: str) -> EvalModel:
    """Return a network of timm with its weights, or with those of a file.

    Args:
        preprocessing: "standard", or "own": as in timm's tables of results.

    Raises:
        ReldropError: there is no such network, its weights cannot be had, or it has other classes.
    """
    if not timm.is_model(name):
        known = timm.list_models(pretrained=True)
        raise ReldropError(unknown(f"model={name} is none of timm's", name, known, "e.g. resnet50.tv2_in1k is"))
    overlay = None
    if weights is not None:
        if not (file := Path(weights).expanduser()).is_file():
            raise ReldropError(f"weights={weights} does not exist")
        overlay = {"file": str(file)}
    try:
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # no network, a damaged file, weights of another network: each raises types of its own
        hint = "check the file" if overlay else "without a connection, download them elsewhere and set weights=FILE"
        raise ReldropError(f"cannot load the weights of {name} ({first_line(error)}); {hint}") from error
    if network.num_classes != len(synsets()):
        raise ReldropError(f"{name} has {network.num_classes} classes; this suite takes the 1,000 of ImageNet")
    own = of_timm(network, name) if preprocessing == "own" else None
    config = timm.data.resolve_model_data_config(network)
    subject = name if overlay is None else f"{name}, weights of {file.name}"
    return EvalModel(subject, network, own or standard(config["mean"], config["std"]))


def make_predict_fn(subject: EvalModel, fabric: Fabric, batch_size: int, workers: int, progress: bool) -> Predict:
    """Return the function by which the suite has files predicted.

    Raises:
        ReldropError: the network does not take images of that size.
    """
    preprocessing = subject.preprocessing
    network = fabric.setup_module(subject.network).eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=fabric.device))
    except (RuntimeError, AssertionError, ValueError) as error:  # of networks for images of one size
        raise ReldropError(
            f"{subject.name} does not take images of {preprocessing.size} pixels ({first_line(error)}); "
            "set preprocessing=own, or another one, for it"
        ) from error

    def predict(files: Files, title: str) -> Iterator[tuple[Tensor, Tensor]]:
        reading = DecodeOptions(preprocessing.frame)
        images = StreamedImages(files.paths, preprocessing.size, workers, reading)
        split = ImageSplit(images, files.labels).to(fabric.device)
        batches = split.batches(torch.arange(len(files)), batch_size)
        total = -(-len(files) // batch_size)
        quiet = None if progress else True  # None: only on a terminal
        for inputs, indices in tqdm(batches, title, total, unit="batch", leave=False, disable=quiet):
            with torch.inference_mode():
                logits = network(preprocessing.normalize(inputs))
            yield logits, split.labels[indices]

    return predict


def _all_classes(data: DictConfig, data_dir: str) -> bool:
    """Whether a run's choice of classes, if it made one, is all of ImageNet-1k."""
    chosen = data.classes
    if isinstance(chosen, str):
        chosen = read_wnids(data_dir, chosen)
    return chosen is None or set(chosen) == set(synsets())

"""Networks for the 1,000 classes of ImageNet, of a run or of timm, and how they predict files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.data.images.dataset import ImageSplit
from reldrop.data.images.decoding import DecodeOptions, StreamedImages
from reldrop.data.images.imagenet_labels import read_wnids
from reldrop.data.paths import Files
from reldrop.evaluation.imagenet_classes import synsets
from reldrop.evaluation.preprocessing import Preprocessing
from reldrop.evaluation.suite import Options, Subject
from reldrop.runs.checkpoint import Checkpoint
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import unknown

Predict = Callable[[Files, str], Iterator[tuple[Tensor, Tensor]]]  # (files, name) -> logits (b, 1000), labels (b,)


@dataclass(frozen=True)
class EvalModel:
    """A network for the 1,000 classes of ImageNet, and what it makes of an image first."""

    network: nn.Module
    preprocessing: Preprocessing

    @classmethod
    def load(cls, subject: Subject, preprocessing: str) -> "EvalModel":
        """Return the network of a subject.

        Args:
            preprocessing: "standard", or "own": as the run has its test images, or as in timm's tables of results.

        Raises:
            ReldropError: it has other classes, or it or its weights are unavailable or damaged.
        """
        if subject.checkpoint is not None:
            return _of_run(subject.checkpoint, preprocessing)
        return _of_timm(subject.model, subject.weights, preprocessing)


def _of_run(checkpoint: Checkpoint, preprocessing: str) -> EvalModel:
    cfg, data = checkpoint.cfg, checkpoint.cfg.dataset
    chosen = data.get("classes")
    if isinstance(chosen, str):
        chosen = read_wnids(str(cfg.data_dir), chosen)
    is_imagenet = str(data["_target_"]).endswith(".imagenet")
    if not is_imagenet or (chosen is not None and set(chosen) != set(synsets())):
        raise ReldropError(
            f"{checkpoint.run} is a run on {data.name}; this suite takes networks for the 1,000 classes of ImageNet"
        )
    network = checkpoint.network(num_classes=len(synsets()), channels=3, size=data.size)
    own = (data.size, data.eval_resize, data.interpolation) if preprocessing == "own" else ()
    return EvalModel(network, Preprocessing.center_crop(tuple(data.mean), tuple(data.std), *own))


def _of_timm(name: str, weights: Path | None, preprocessing: str) -> EvalModel:
    import timm  # takes seconds

    if not timm.is_model(name):
        known = timm.list_models(pretrained=True)
        raise ReldropError(unknown(f"model={name} is none of timm's", name, known, "e.g. resnet50.tv2_in1k is"))
    if weights is not None and not weights.is_file():
        raise ReldropError(f"weights={weights} does not exist")
    overlay = None if weights is None else {"file": str(weights)}
    try:
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # no network, a damaged file, weights of another network: each raises types of its own
        hint = "check the file" if overlay else "without a connection, download them elsewhere and set weights=FILE"
        raise ReldropError(f"cannot load the weights of {name} ({first_line(error)}); {hint}") from error
    if network.num_classes != len(synsets()):
        raise ReldropError(f"{name} has {network.num_classes} classes; this suite takes the 1,000 of ImageNet")
    if preprocessing == "own":
        return EvalModel(network, Preprocessing.from_timm(network, name))
    config = timm.data.resolve_model_data_config(network)
    return EvalModel(network, Preprocessing.center_crop(config["mean"], config["std"]))


def make_predict_fn(model: EvalModel, name: str, options: Options) -> Predict:
    """Return the function by which the suite has files predicted.

    Args:
        name: of the network, in messages.

    Raises:
        ReldropError: the network does not take images of that size.
    """
    preprocessing, device = model.preprocessing, options.fabric.device
    network = options.fabric.setup_module(model.network).eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:  # of networks for images of one size
        raise ReldropError(
            f"{name} does not take images of {preprocessing.size} pixels ({first_line(error)}); "
            "set preprocessing=own, or another one, for it"
        ) from error

    def predict(files: Files, title: str) -> Iterator[tuple[Tensor, Tensor]]:
        images = StreamedImages(files.paths, preprocessing.size, options.workers, DecodeOptions(preprocessing.frame))
        split = ImageSplit(images, files.labels).to(device)
        batches = split.batches(torch.arange(len(files)), options.batch_size)
        total = -(-len(files) // options.batch_size)
        quiet = None if options.progress else True  # None: only on a terminal
        for inputs, indices in tqdm(batches, title, total, unit="batch", leave=False, disable=quiet):
            with torch.inference_mode():
                logits = network(preprocessing.normalize(inputs))
            yield logits, split.labels[indices]

    return predict

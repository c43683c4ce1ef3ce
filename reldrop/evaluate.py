"""Evaluate a network: python -m reldrop.evaluate run=FOLDER suite=zero_shot, or model=resnet50.tv2_in1k in place of run."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
import timm
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.config import build
from reldrop.data.decode import Reading, StreamedImages
from reldrop.data.folders import Files
from reldrop.data.framing import CentreCrop
from reldrop.data.ilsvrc_labels import read_wnids
from reldrop.data.images import ImageSplit
from reldrop.errors import ReldropError, first_line
from reldrop.metrics import synsets
from reldrop.metrics.preprocessing import Preprocessing, of_timm, standard
from reldrop.processes import one_device
from reldrop.runs import write_json_atomic
from reldrop.train import CONFIG_PATH

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Settings:
    """What is evaluated and how; see conf/evaluate.yaml for what each means."""

    run: str | None
    checkpoint: str
    model: str | None
    weights: str | None
    data_dir: str
    results_dir: str
    output: str | None
    preprocessing: str
    limit: int | None
    batch_size: int
    precision: str
    accelerator: str
    workers: int
    progress: bool

    def __post_init__(self) -> None:
        if (self.run is None) == (self.model is None):
            raise ReldropError(
                "name what to evaluate: run=FOLDER of a run, or model=NAME of a network of timm, not both"
            )
        if self.weights is not None and self.model is None:
            raise ReldropError(
                f"weights={self.weights} goes with model=NAME; a run has its own weights, see checkpoint"
            )
        for key, known in (("checkpoint", ("last", "best")), ("preprocessing", ("standard", "own"))):
            if getattr(self, key) not in known:
                raise ReldropError(f"{key}={getattr(self, key)} is not known; choose {' or '.join(known)}")
        for key, least in (("limit", 1), ("batch_size", 1), ("workers", 0)):
            value = getattr(self, key)
            if (value is not None or key != "limit") and not (type(value) is int and value >= least):
                raise ReldropError(f"{key}={value} must be a whole number, at least {least}")

    def file(self, suite: str) -> Path:
        """Where the results of a suite go."""
        if self.output is not None:
            return Path(self.output).expanduser()
        if self.run is not None:
            return Path(self.run).expanduser() / f"{suite}.json"
        return Path(self.results_dir) / suite / f"{self.model}.json"


@dataclass(frozen=True)
class Subject:
    """A network for the 1,000 classes of ImageNet, what it is called in reports, and what it makes of an image first."""

    name: str
    network: nn.Module
    preprocessing: Preprocessing


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate what `cfg` names, write the results to a file and return them.

    Raises:
        ReldropError: for anything the user can mend.
    """
    settings = _settings(cfg)
    suite = build(cfg, "suite")
    sets, missing = suite.find(Path(settings.data_dir).expanduser(), settings.limit)
    subject = _of_run(settings) if settings.run is not None else _of_timm(settings)
    fabric = one_device(settings.accelerator, settings.precision)
    logger.info("%s: %s", subject.name, subject.preprocessing.described())
    figures = suite.measure(sets, _predictor(subject, fabric, settings))
    if missing := [*missing, *(name for name in sets if name not in figures)]:
        logger.info("not evaluated, for want of images in data_dir: %s", ", ".join(missing))
    results = {
        "suite": suite.name,
        "subject": subject.name,
        "preprocessing": subject.preprocessing.described(),
        "precision": settings.precision,
        "limit": settings.limit,
        **figures,
        "missing": missing,
    }
    file = settings.file(suite.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, results)
    except OSError as error:
        raise ReldropError(
            f"cannot write {file} ({error.strerror or error}); set output=FILE to another one"
        ) from error
    print(suite.table(figures))
    logger.info("written to %s", file)
    return results


def _settings(cfg: DictConfig) -> Settings:
    values = OmegaConf.to_container(cfg, resolve=True)
    values.pop("suite")
    for key in ("run", "model", "weights", "output"):  # Hydra reads what looks like a number as one
        if values.get(key) is not None:
            values[key] = str(values[key])
    known = [field.name for field in fields(Settings)]
    for key in set(values) - set(known):
        near = get_close_matches(str(key), known, n=1)
        raise ReldropError(
            f"{key} is not a setting; {f'did you mean {near[0]}?' if near else 'see conf/evaluate.yaml'}"
        )
    return Settings(**values)


def _of_run(settings: Settings) -> Subject:
    """The network of a run on the 1,000 classes of ImageNet, with a checkpoint's weights."""
    folder = Path(settings.run).expanduser()
    file = folder / f"{settings.checkpoint}.pt"
    if missing := [path.name for path in (folder / "config.yaml", file) if not path.is_file()]:
        raise ReldropError(f"{folder} is no run folder with a checkpoint ({', '.join(missing)} not found)")
    cfg = OmegaConf.load(folder / "config.yaml")
    data = cfg.dataset
    if data["_target_"] != "reldrop.data.imagenet" or not _all_classes(data):
        raise ReldropError(
            f"{folder} is a run on {data.name}; this suite takes networks for the 1,000 classes of ImageNet"
        )
    network = build(cfg, "backbone", num_classes=len(synsets()), channels=3, size=data.size, weights=None)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        weights, epoch = state["model"], state["epoch"]
    except Exception as error:  # depending on which bytes are wrong, almost any
        raise ReldropError(f"checkpoint {file} is damaged ({first_line(error)}); let the run write it anew") from error
    head = next(name for name, module in network.named_modules() if module is network.get_classifier())
    outputs = len(weights.get(f"{head}.weight", ()))
    if outputs != len(synsets()):
        raise ReldropError(f"{folder} is a run on {outputs} classes; this suite takes the 1,000 of ImageNet")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ReldropError(f"checkpoint {file} does not fit config.yaml beside it ({first_line(error)})") from error
    preprocessing = standard(data.mean, data.std)
    if settings.preprocessing == "own":
        frame = CentreCrop(data.eval_resize, data.interpolation)
        preprocessing = Preprocessing(frame, data.size, tuple(data.mean), tuple(data.std))
    name = "/".join(folder.resolve().parts[-3:])  # experiment, augmentation, seed
    return Subject(f"{name}, {settings.checkpoint} checkpoint, {epoch} epochs", network, preprocessing)


def _all_classes(data: DictConfig) -> bool:
    """Whether a run's choice of classes, if it made one, is all of ImageNet-1k."""
    chosen = data.classes
    if isinstance(chosen, str):
        chosen = read_wnids(data.root, chosen)
    return chosen is None or set(chosen) == set(synsets())


def _of_timm(settings: Settings) -> Subject:
    """A network of timm with its weights, or with those of a file."""
    name = settings.model
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(pretrained=True), n=1)
        raise ReldropError(f"model={name} is none of timm's{f'; did you mean {near[0]}?' if near else ''}")
    overlay = None
    if settings.weights is not None:
        if not (file := Path(settings.weights).expanduser()).is_file():
            raise ReldropError(f"weights={settings.weights} does not exist")
        overlay = {"file": str(file)}
    try:
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # no network, a damaged file, weights of another network: each raises types of its own
        hint = "check the file" if overlay else "without a connection, download them elsewhere and set weights=FILE"
        raise ReldropError(f"cannot load the weights of {name} ({first_line(error)}); {hint}") from error
    if network.num_classes != len(synsets()):
        raise ReldropError(f"{name} has {network.num_classes} classes; this suite takes the 1,000 of ImageNet")
    own = of_timm(network, name) if settings.preprocessing == "own" else None
    config = timm.data.resolve_model_data_config(network)
    subject = name if overlay is None else f"{name}, weights of {file.name}"
    return Subject(subject, network, own or standard(config["mean"], config["std"]))


def _predictor(subject: Subject, fabric: Fabric, settings: Settings) -> Any:
    """Return the function by which a suite has files predicted, see `reldrop.metrics.zero_shot.Predict`."""
    preprocessing = subject.preprocessing
    network = fabric.setup_module(subject.network).eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=fabric.device))
    except (RuntimeError, AssertionError, ValueError) as error:  # of networks for images of one size
        raise ReldropError(
            f"{subject.name} does not take images of {preprocessing.size} pixels ({first_line(error)}); "
            f"preprocessing={settings.preprocessing} is not for it"
        ) from error

    def predict(files: Files, title: str) -> Iterator[tuple[Tensor, Tensor]]:
        reading = Reading(preprocessing.frame)
        images = StreamedImages(files.paths, preprocessing.size, settings.workers, reading)
        split = ImageSplit(images, files.labels).to(fabric.device)
        batches = split.batches(torch.arange(len(files)), settings.batch_size)
        total = -(-len(files) // settings.batch_size)
        quiet = None if settings.progress else True  # None: only on a terminal
        for inputs, indices in tqdm(batches, title, total, unit="batch", leave=False, disable=quiet):
            with torch.inference_mode():
                logits = network(preprocessing.normalise(inputs))
            yield logits, split.labels[indices]

    return predict


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="evaluate")
def main(cfg: DictConfig) -> None:
    try:
        evaluate(cfg)
    except ReldropError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing was written")


if __name__ == "__main__":
    main()

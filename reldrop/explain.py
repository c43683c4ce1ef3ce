"""Draw what is relevant for a network, without training: python -m reldrop.explain model=resnet50.a1_in1k images=FOLDER."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from reldrop.command import run_command
from reldrop.config import build, check
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.io import absolute, writing
from reldrop.utils.text import unknown
from reldrop.utils.types import Count, Group, Text

if TYPE_CHECKING:
    from torch import Tensor, nn

# The classes of ModelNet40 in the order of its list of names, which PointNet++ has.
MODELNET40 = (
    *("airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain"),
    *(
        "desk",
        "door",
        "dresser",
        "flower_pot",
        "glass_box",
        "guitar",
        "keyboard",
        "lamp",
        "laptop",
        "mantel",
        "monitor",
    ),
    *("night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table"),
    *("tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox"),
)


@dataclass(frozen=True)
class Settings:
    """What is explained; see conf/explain.yaml for what each means."""

    model: Text | None
    weights: Text | None
    run: Text | None
    checkpoint: Text
    data_dir: Text | None
    images: Text | None
    clouds: Text | None
    target: Text | int | None
    check: bool
    batch_size: Count
    output: Text
    attribution: Group
    machine: Group


@dataclass(frozen=True)
class Explained:
    """A network, the names of its classes, and what it takes of a file: its input, and what is shown of it."""

    network: "nn.Module"
    classes: Sequence[str]
    shape: tuple[int, ...]
    read: Callable[[str], tuple["Tensor", Any]]


def explain(cfg: DictConfig) -> list[Path]:
    """Draw the relevance of each file of a folder, and return what was written.

    Raises:
        ReldropError: the settings do not go together, the network is unknown or not covered, or no file can be read.
    """
    check(cfg, Settings, groups=("attribution", "machine"))
    of_file = cfg.checkpoint not in ("last", "best")
    if (cfg.model is not None) + (cfg.run is not None) + of_file != 1:
        raise ReldropError(
            "set one of model=NAME (of timm), run=FOLDER (with checkpoint=last or best) and checkpoint=FILE (of a PointNet++)"
        )
    if of_file and cfg.images is not None:
        raise ReldropError("checkpoint=FILE is for point clouds: set clouds=FOLDER in place of images")
    if (cfg.images is not None and cfg.clouds is not None) or (cfg.images is cfg.clouds is None and not cfg.check):
        raise ReldropError("set one of images=FOLDER and clouds=FOLDER, or check=true")
    if cfg.model is not None and cfg.clouds is not None:
        raise ReldropError("networks of timm take images: set images=FOLDER with model, or run=FOLDER with clouds")
    import torch

    from reldrop.attribution import GradientLRP
    from reldrop.attribution import check as audit
    from reldrop.data.images import folders
    from reldrop.data.points import files as points

    if of_file:
        subject = _of_pointnet2(absolute(cfg.checkpoint))
    else:
        subject = _of_timm(cfg.model, cfg.weights) if cfg.run is None else _of_run(cfg)
    folder = cfg.images or cfg.clouds
    files = _files(absolute(folder), folders.SUFFIXES if cfg.images else points.SUFFIXES) if folder else []
    attribution = build(cfg, "attribution")
    target = None if cfg.target is None else _target(cfg.target, subject.classes)
    if cfg.check:
        if not isinstance(attribution, GradientLRP):
            raise ReldropError(f"check=true accounts for the rules of attribution=gradient, not {cfg.attribution.name}")
        print("" if files else "random inputs, as there is no folder of files")
        read = [subject.read(file)[0] for file in files[:2]]
        inputs = (
            torch.stack(read) if read else torch.randn(2, *subject.shape, generator=torch.Generator().manual_seed(0))
        )
        print(audit(subject.network.double(), inputs.double(), attribution=attribution))
        subject.network.float()
    return _draw(cfg, subject, files, attribution, target) if files else []


def _draw(cfg: DictConfig, subject: Explained, files: list[str], attribution: Any, target: int | None) -> list[Path]:
    import torch
    from tqdm import tqdm

    from reldrop.plotting.relevance import Shown, write_clouds, write_images

    output, written = absolute(cfg.output), []
    write = write_images if cfg.images else write_clouds
    root = absolute(cfg.images or cfg.clouds)
    names = dict(zip(files, _names(files, root.parent if root.is_file() else root), strict=True))
    with writing(str(output), "set output=FOLDER to another one"):
        for name in names.values():
            (output / name).parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(files), unit="file", disable=not cfg.machine.progress)
    for first in range(0, len(files), cfg.batch_size):
        batch = []
        for file in files[first : first + cfg.batch_size]:
            try:
                batch.append((file, *subject.read(file)))
            except ReldropError as error:
                bar.write(f"{file} is passed over: {first_line(error)}")
            bar.update()
        if not batch:
            continue
        inputs = torch.stack([each[1] for each in batch])
        with torch.no_grad():
            probabilities = subject.network(inputs).softmax(1)
        targets = probabilities.argmax(1) if target is None else torch.full((len(inputs),), target)
        maps = attribution(subject.network, inputs, targets, torch.Generator().manual_seed(0)).detach()
        for (file, _, shown), relevance, chosen, shares in zip(batch, maps, targets, probabilities, strict=True):
            top = [f"{subject.classes[k]} {shares[k]:.0%}" for k in shares.topk(min(3, len(shares))).indices]
            title = f"relevance for {subject.classes[chosen]}"
            with writing(str(output), "set output=FOLDER to another one"):
                written += write(Shown(names[file], shown, relevance.numpy(), ", ".join(top), title), output)
    bar.close()
    if not written:
        raise ReldropError(f"no file of {cfg.images or cfg.clouds} can be read")
    return written


def _of_timm(name: str, weights: str | None) -> Explained:
    import timm
    import torch
    from timm.data import ImageNetInfo, infer_imagenet_subset

    from reldrop.backbones.timm import pretrained
    from reldrop.backbones.weights import start_from
    from reldrop.data.images.decoding import decode
    from reldrop.evaluation.preprocessing import Preprocessing

    if not timm.is_model(name):
        raise ReldropError(
            unknown(f"model={name} is not known to timm", name, timm.list_models(), "see timm.list_models()")
        )
    network = start_from(timm.create_model(name), weights, name, False, {"timm": lambda: pretrained(name)}).eval()
    seen = Preprocessing.from_timm(network, name)
    subset = infer_imagenet_subset(network)
    info = ImageNetInfo(subset) if subset else None
    count = network.num_classes
    names = [info.index_to_description(k).split(",")[0] if info else f"class {k}" for k in range(count)]

    def read(file: str) -> tuple["Tensor", Any]:
        image = torch.from_numpy(decode(file, seen.size, seen.frame))
        return seen.normalize(image[None])[0], image

    return Explained(network, names, (3, seen.size, seen.size), read)


def _of_pointnet2(file: Path) -> Explained:
    from reldrop.backbones.common_pointnet2 import POINTS, common_pointnet2

    network, channels = common_pointnet2(file)
    count = network.num_classes
    names = MODELNET40 if count == len(MODELNET40) else [f"class {k}" for k in range(count)]
    return Explained(network, names, (POINTS, channels), _cloud_reader(POINTS, channels))


def _cloud_reader(points: int, channels: int) -> Callable[[str], tuple["Tensor", Any]]:
    import torch

    from reldrop.data.points.files import read_cloud
    from reldrop.data.points.preprocessing import sample

    def read(file: str) -> tuple["Tensor", Any]:
        clouds, _ = sample([read_cloud(file, channels > 3)], points)
        cloud = torch.from_numpy(clouds[0])[:, :channels]
        return cloud, cloud[:, :3]

    return read


def _of_run(cfg: DictConfig) -> Explained:
    import torch

    from reldrop.data.images.crops import CenterCrop
    from reldrop.data.images.decoding import decode
    from reldrop.runs.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(absolute(cfg.run), cfg.checkpoint)
    data = checkpoint.data(None if cfg.data_dir is None else str(cfg.data_dir))
    if data.kind != ("points" if cfg.clouds else "images") and (cfg.clouds or cfg.images):
        setting = "clouds" if data.kind == "points" else "images"
        raise ReldropError(f"{checkpoint.run} was trained on {data.unit}s of {data.name}; set {setting}=FOLDER")
    example = data.dummy_input()[0]

    def read_image(file: str) -> tuple["Tensor", Any]:
        frame = CenterCrop(data.size, "bilinear")
        image = torch.from_numpy(decode(file, data.size, frame, grayscale=len(example) == 1))
        return data.normalize(image[None])[0], image

    on_points = data.kind == "points"
    read = _cloud_reader(checkpoint.cfg.dataset.points, example.shape[1]) if on_points else read_image
    network = checkpoint.network(**data.model_kwargs).eval()
    return Explained(network, data.classes, tuple(example.shape), read)


def _files(path: Path, suffixes: Sequence[str]) -> list[str]:
    """Return the files of a folder that have one of the suffixes, or the one file."""
    from reldrop.data.paths import files_below

    files = files_below(path, suffixes) if path.is_dir() else [str(path)] if path.is_file() else []
    if not files:
        raise ReldropError(f"{path} has no files to explain; it must be a folder of {', '.join(suffixes)} files")
    return files


def _names(files: Sequence[str], root: Path) -> list[str]:
    """Return the names of the pictures: the files' own below `root`, without suffixes unless two would be the same."""
    paths = [Path(file).relative_to(root) for file in files]
    short = [str(path.with_suffix("")) for path in paths]
    return short if len(set(short)) == len(short) else list(map(str, paths))


def _target(target: str | int, classes: Sequence[str]) -> int:
    if isinstance(target, int) or target.isdecimal():
        if int(target) < len(classes):
            return int(target)
        raise ReldropError(f"target={target} must be below {len(classes)}, the number of classes")
    indices = [index for index, name in enumerate(classes) if name == target]
    if len(indices) > 1:
        raise ReldropError(f"target={target} is the name of classes {' and '.join(map(str, indices))}; give an index")
    if indices:
        return indices[0]
    raise ReldropError(unknown(f"target={target} is no class of this network", target, classes, "give its index"))


def _main(cfg: DictConfig) -> None:
    if written := explain(cfg):
        print(f"{len(written)} files in {absolute(cfg.output)}")


def command() -> None:
    run_command(_main, "explain", "what is written is whole")


if __name__ == "__main__":
    command()

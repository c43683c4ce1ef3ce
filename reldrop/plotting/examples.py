"""Pictures of what is relevant in some test samples, and what augmentations occlude of them."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from reldrop.attribution import Attribution
from reldrop.attribution.evaluation import evaluation_mode
from reldrop.augmentation import (
    NoAugmentation,
    RandomErasing,
    RandomPointDropout,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
    RelDropPoint,
)
from reldrop.config import build
from reldrop.data import Data
from reldrop.data.class_names import class_titles
from reldrop.data.images.annotations import Regions
from reldrop.plotting.layout import grid
from reldrop.plotting.point_clouds import cloud_grid
from reldrop.reporting.arms import arm_title
from reldrop.runs.checkpoint import Checkpoint, kept
from reldrop.utils.seeding import generator

SHOWN = {  # by the kind of data, each with its default settings
    "images": {
        "random_erasing": RandomErasing,
        "reldrop_block": RelDropBlock,
        "reldrop_patch": RelDropPatch,
        "reldrop_pixel": RelDropPixel,
    },
    "points": {"random_point_dropout": RandomPointDropout, "reldrop_point": RelDropPoint},
}
COLORS, SCALE = "RdBu_r", "relevance / its largest size, of each map: red for the true class, blue against it"
PREDICTED = "Top: true class. Below relevance: predicted class, its probability; orange where it is wrong."


def checkpoint_figure(
    checkpoint: Checkpoint,
    data: Data,
    model: nn.Module,
    attribution: Attribution,
    regions: Regions | None = None,
    count: int = 6,
) -> Figure:
    """Return `occlusion_figure` of a run's network, and relevance at the epochs kept.

    The augmentations are those of the paper, and that of the run if it is of the user's own.
    """
    earlier = {f"relevance, epoch {other.epoch}": other.network(**data.model_kwargs) for other in kept(checkpoint)}
    augmentations = shown_augmentations(data.kind, _augmentation(checkpoint, data), checkpoint.cfg.augmentation.name)
    return occlusion_figure({**earlier, "relevance": model}, data, attribution, augmentations, count, regions)


def shown_augmentations(kind: str, own: Any, name: str) -> dict[str, tuple[Any, str]]:
    """Return what `occlusion_figure` shows of one network: the augmentations of the paper, and its own if it is another.

    Args:
        kind: of the data, "images" or "points".
        own: the augmentation of the run.
        name: of that.
    """
    others = {} if type(own) in (*SHOWN[kind].values(), NoAugmentation) else {arm_title(name): (own, "relevance")}
    return others | {arm_title(known): (make(), "relevance") for known, make in SHOWN[kind].items()}


def arms_figure(checkpoints: Sequence[Checkpoint], data: Data, attribution: Attribution, count: int = 6) -> Figure:
    """Return `occlusion_figure` of the networks of several arms, each with what its own augmentation occludes.

    All have the same random draws.

    Args:
        checkpoints: one for each arm, of the same data.
        data: of all of them.
        attribution: the same for all, so that their relevance can be compared.
        count: test samples.
    """
    networks, augmentations = {}, {}
    for checkpoint in checkpoints:
        title = arm_title(checkpoint.cfg.augmentation.name)
        networks[f"relevance, {title}"] = checkpoint.network(**data.model_kwargs)
        own = _augmentation(checkpoint, data)
        if not isinstance(own, NoAugmentation):
            augmentations[f"occluded, {title}"] = (own, f"relevance, {title}")
    return occlusion_figure(networks, data, attribution, augmentations, count)


def occlusion_figure(
    networks: Mapping[str, nn.Module],
    data: Data,
    attribution: Attribution,
    augmentations: Mapping[str, tuple[Any, str]],
    count: int = 6,
    regions: Regions | None = None,
) -> Figure:
    """Return a figure with a column for each of `count` test samples: relevance, and what each augmentation occludes.

    Args:
        networks: title -> network; each has a row of its relevance for the true class, and its predictions below.
        data: of images, which are also shown as they are, or of point clouds, whose dropped points are shown.
        augmentations: title -> augmentation and the title of the network from which it has relevance; each is drawn with
            probability 1, so that every column shows something, and with the same random draws.
        regions: of the test images, which are then outlined.
    """
    device = next(next(iter(networks.values())).parameters()).device
    batch = next(data.eval_batches("test", batch_size=count, limit=count))
    inputs, targets = batch.inputs.to(device), batch.targets.to(device)
    maps, captions, titles = {}, {}, class_titles(data.classes)
    for title, network in networks.items():
        maps[title] = attribution(network.to(device), inputs, targets, generator=generator(0, "figure"))
        with evaluation_mode(network), torch.inference_mode():
            shares, predicted = network(inputs).float().softmax(1).max(1)
        outcomes = zip(predicted.tolist(), shares.tolist(), targets.tolist(), strict=True)
        captions[title] = [
            (f"{titles[guess]} ({100 * share:.0f} %)", guess == target) for guess, share, target in outcomes
        ]
    occluded = {}
    for title, (augmentation, source) in augmentations.items():
        always = copy(augmentation)
        if hasattr(always, "probability"):
            always.probability = 1.0
        occluded[title], _ = always(inputs, targets, maps[source].__getitem__, generator(0, "figure", 1))
    names = [titles[target] for target in targets.tolist()]
    if data.kind == "points":
        dropped = {title: (changed != inputs).any(-1) for title, changed in occluded.items()}
        return cloud_grid(inputs[..., :3], maps, dropped, names, captions, PREDICTED)
    outlines = [None] * len(names)
    if regions is not None:
        outlines = regions.masks([data.test.paths[item] for item in batch.items.tolist()]).numpy()
    rows = {"input": data.denormalize(inputs), **maps}
    rows |= {title: data.denormalize(changed) for title, changed in occluded.items()}
    cells = {}
    for number, (label, pictures) in enumerate(rows.items()):
        shown = outlines if number < 2 else [None] * len(names)
        cells[label] = list(zip(pictures.detach().float().cpu().numpy(), shown, strict=True))
    return grid(cells, names, draw_image, captions, (COLORS, SCALE), PREDICTED)


def _augmentation(checkpoint: Checkpoint, data: Data) -> Any:
    return build(checkpoint.cfg, "augmentation", **data.augmentation_kwargs)


def draw_image(axis: Axes, picture: tuple[np.ndarray, np.ndarray | None]) -> None:
    """Draw an image (C, H, W) in [0, 1] or a map (H, W), red where it is positive, blue where negative.

    The second of the pair, unless it is None, is a region, bool (H, W), whose border is drawn.
    """
    image, region = picture
    if image.ndim == 2:
        limit = abs(image).max() or 1.0
        axis.imshow(image, cmap=COLORS, vmin=-limit, vmax=limit, interpolation="nearest")
    else:
        axis.imshow(image.clip(0, 1).transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if region is not None:
        axis.autoscale(False)
        rows, columns = (range(-1, side + 1) for side in region.shape)
        border = np.pad(region.astype(float), 1)  # so that it is drawn where it is that of the image as well
        edges = axis.contour(columns, rows, border, [0.5], colors="#F0E442", linewidths=0.8)
        edges.set(clip_on=False, zorder=3)

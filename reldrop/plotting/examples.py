"""Pictures of what is relevant in some test samples, and what augmentations occlude of them."""

import re
from collections.abc import Mapping
from copy import copy

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from reldrop.attribution import Attribution
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
from reldrop.data.images.annotations import Regions
from reldrop.plotting.layout import grid
from reldrop.plotting.point_clouds import cloud_grid
from reldrop.runs.checkpoint import Checkpoint, kept
from reldrop.utils.seeding import generator

SHOWN = {  # by the kind of data
    "images": (RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel),
    "points": (RandomPointDropout, RelDropPoint),
}


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
    own, augmentations = build(checkpoint.cfg, "augmentation", **data.augmentation_kwargs), {}
    if type(own) not in (*SHOWN[data.kind], NoAugmentation):
        augmentations[checkpoint.cfg.augmentation.name] = own
    for each in SHOWN[data.kind]:
        lines = re.sub("(?<!^)([A-Z])", r"_\1", each.__name__).replace("Rel_Drop", "RelDrop")
        augmentations[lines] = each()
    return occlusion_figure(model, data, attribution, augmentations, count, earlier, regions)


def occlusion_figure(
    model: nn.Module,
    data: Data,
    attribution: Attribution,
    augmentations: Mapping[str, object],
    count: int = 6,
    earlier: Mapping[str, nn.Module] | None = None,
    regions: Regions | None = None,
) -> Figure:
    """Return a figure with a column for each of `count` test samples: relevance, and what each augmentation occludes.

    Args:
        data: of images, which are also shown as they are, or of point clouds, whose dropped points are shown.
        augmentations: title -> augmentation; each is drawn with probability 1, so that every column shows something.
        earlier: title -> the network as it was at some time; relevance is shown for each, before that of `model`.
        regions: of the test images, which are then outlined.
    """
    device = next(model.parameters()).device
    batch = next(data.eval_batches("test", batch_size=count, limit=count))
    inputs, targets = batch.inputs.to(device), batch.targets.to(device)
    maps = {
        title: attribution(network.to(device), inputs, targets, generator=generator(0, "figure"))
        for title, network in {**(earlier or {}), "relevance": model}.items()
    }
    occluded = {}
    for title, augmentation in augmentations.items():
        always = copy(augmentation)
        if hasattr(always, "probability"):
            always.probability = 1.0
        occluded[title], _ = always(inputs, targets, maps["relevance"].__getitem__, generator(0, "figure", 1))
    names = [data.classes[int(target)] for target in targets]
    if data.kind == "points":
        dropped = {title: (changed != inputs).any(-1) for title, changed in occluded.items()}
        return cloud_grid(inputs[..., :3], maps, dropped, names)
    outlines = [None] * len(names)
    if regions is not None:
        outlines = regions.masks([data.test.paths[item] for item in batch.items.tolist()]).numpy()
    rows = {"input": data.denormalize(inputs), **maps}
    rows |= {title: data.denormalize(changed) for title, changed in occluded.items()}
    cells = {}
    for number, (label, pictures) in enumerate(rows.items()):
        shown = outlines if number < 2 else [None] * len(names)
        cells[label] = list(zip(pictures.detach().float().cpu().numpy(), shown, strict=True))
    return grid(cells, names, draw_image)


def draw_image(axis: Axes, picture: tuple[np.ndarray, np.ndarray | None]) -> None:
    """Draw an image (C, H, W) in [0, 1] or a map (H, W), red where it is positive, blue where negative.

    The second of the pair, unless it is None, is a region, bool (H, W), whose border is drawn.
    """
    image, region = picture
    if image.ndim == 2:
        limit = abs(image).max() or 1.0
        axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    else:
        axis.imshow(image.clip(0, 1).transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if region is not None:
        axis.autoscale(False)
        rows, columns = (range(-1, side + 1) for side in region.shape)
        border = np.pad(region.astype(float), 1)  # so that it is drawn where it is that of the image as well
        edges = axis.contour(columns, rows, border, [0.5], colors="#F0E442", linewidths=0.8)
        edges.set(clip_on=False, zorder=3)

"""Pictures of what is relevant and what gets occluded: python -m reldrop.figures RUN_FOLDER [--output FILE]."""

import argparse
import re
import sys
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from reldrop.attribution import Attribution
from reldrop.data import Data
from reldrop.data.images.annotations import Regions
from reldrop.plotting.point_clouds import cloud_grid, label_row
from reldrop.runs.reader import Checkpoint, kept, read_checkpoint
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import generator


def occlusion_figure(
    model: nn.Module,
    data: Data,
    attribution: Attribution,
    augmentations: Mapping[str, Any],
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
    inputs, targets, items, *_ = next(data.eval_batches("test", batch_size=count, limit=count))
    inputs, targets = inputs.to(device), targets.to(device)
    networks = {**(earlier or {}), "relevance": model}
    maps = {
        title: attribution(net, inputs, targets, generator=generator(0, "figure")) for title, net in networks.items()
    }
    occluded = {
        title: _always(augmentation)(inputs, targets, maps["relevance"].__getitem__, generator(0, "figure", 1))[0]
        for title, augmentation in augmentations.items()
    }
    names = [data.classes[int(target)] for target in targets]
    if data.kind == "points":
        dropped = {title: (changed != inputs).any(-1) for title, changed in occluded.items()}
        return cloud_grid(inputs[..., :3], maps, dropped, names)
    rows: list[tuple[str, Tensor]] = [("input", data.denormalize(inputs)), *maps.items()]
    rows += [(title, data.denormalize(changed)) for title, changed in occluded.items()]
    figure = _grid(rows, names)
    if regions is not None:
        outlines = regions.masks([data.test.paths[item] for item in items.tolist()])
        for axis, outline in zip(figure.axes[: 2 * len(names)], [*outlines, *outlines], strict=True):
            _outline(axis, outline)
    return figure


def _always(augmentation: Any) -> Any:
    twin = copy(augmentation)
    if hasattr(twin, "probability"):
        twin.probability = 1.0
    return twin


def _grid(rows: list[tuple[str, Tensor]], titles: list[str]) -> Figure:
    """Images (n, C, H, W) in [0, 1] or maps (n, H, W), a row each; relevance is red where positive, blue where negative."""
    figure = Figure(figsize=(1.1 * len(titles) + 1.2, 1.15 * len(rows) + 0.3), dpi=200, layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for (label, images), line in zip(rows, axes, strict=True):
        for image, axis in zip(images.detach().float().cpu().numpy(), line, strict=True):
            if image.ndim == 2:
                limit = abs(image).max() or 1.0
                axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            elif len(image) == 1:
                axis.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            else:
                axis.imshow(image.clip(0, 1).transpose(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        label_row(line[0], label)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure


def _outline(axis: Axes, region: Tensor) -> None:
    """Draw the border of a region, bool (H, W), where it touches that of the image as well."""
    rows, columns = (range(-1, side + 1) for side in region.shape)
    axis.autoscale(False)
    edges = axis.contour(
        columns, rows, F.pad(region.float(), (1, 1, 1, 1)).numpy(), [0.5], colors="#F0E442", linewidths=0.8
    )
    edges.set_clip_on(False)


def figure_of_run(folder: Path) -> Figure:
    """Return the figure of a finished or running run, with the attribution that it was trained with.

    Raises:
        ReldropError: if the folder holds no run with a checkpoint.
    """
    from reldrop.config import build

    checkpoint = read_checkpoint(folder)
    data = checkpoint.data()
    model = checkpoint.network(**data.model_kwargs)
    return figure_of_checkpoint(checkpoint, data, model, build(checkpoint.cfg, "attribution"))


def figure_of_checkpoint(
    checkpoint: Checkpoint, data: Data, model: nn.Module, attribution: Attribution, regions: Regions | None = None
) -> Figure:
    """Return the figure of a network, with the augmentations of the paper, and relevance at the epochs that were kept.

    Args:
        checkpoint: where the network comes from; other checkpoints of its run lie beside it.
        data: of the run.
        model: the network, on the device of the data.
        regions: of the test images, which are then outlined.
    """
    from reldrop import augmentation as known

    device = next(model.parameters()).device
    earlier = {
        f"relevance, epoch {other.epoch}": other.network(**data.model_kwargs).to(device) for other in kept(checkpoint)
    }
    shown = {
        "images": (known.RandomErasing, known.RelDropBlock, known.RelDropPatch, known.RelDropPixel),
        "points": (known.RandomPointDropout, known.RelDropPoint),
    }[data.kind]
    augmentations = {_in_words(augmentation.__name__): augmentation() for augmentation in shown}
    return occlusion_figure(model, data, attribution, augmentations, earlier=earlier, regions=regions)


def _in_words(name: str) -> str:
    """Break RandomPointDropout into lines, but leave RelDrop whole."""
    return re.sub("([A-Z])", r"_\1", name).strip("_").replace("Rel_Drop", "RelDrop")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw inputs, their relevance and what each augmentation occludes.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--output", type=Path, help="a .png or .pdf file; by default examples.png in the run folder")
    options = parser.parse_args()
    try:
        figure = figure_of_run(options.run)
    except ReldropError as error:
        sys.exit(f"error: {error}")
    output = options.output or options.run / "examples.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)
    print(output)


if __name__ == "__main__":
    main()

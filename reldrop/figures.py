"""Pictures of what is relevant and what gets occluded: python -m reldrop.figures RUN_FOLDER [--output FILE]."""

import argparse
import re
import sys
from collections.abc import Mapping
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, nn

from reldrop.attribution import Attribution
from reldrop.cloud_figures import cloud_grid
from reldrop.data import Data
from reldrop.errors import ReldropError
from reldrop.seeding import generator


def occlusion_figure(
    model: nn.Module,
    data: Data,
    attribution: Attribution,
    augmentations: Mapping[str, Any],
    count: int = 6,
) -> Figure:
    """Return a figure with a column for each of `count` test samples: relevance, and what each augmentation occludes.

    Args:
        data: of images, which are also shown as they are, or of point clouds, whose dropped points are shown.
        augmentations: title -> augmentation; each is drawn with probability 1, so that every column shows something.
    """
    device = next(model.parameters()).device
    inputs, targets = next(data.eval_batches("test", batch_size=count, limit=count))
    inputs, targets = inputs.to(device), targets.to(device)
    maps = attribution(model, inputs, targets, generator=generator(0, "figure"))
    relevance = partial(attribution, model)
    occluded = {
        title: _always(augmentation)(inputs, targets, relevance, generator(0, "figure", 1))
        for title, augmentation in augmentations.items()
    }
    names = [data.classes[int(target)] for target in targets]
    if data.inputs == "points":
        dropped = {title: (changed != inputs).any(-1) for title, changed in occluded.items()}
        return cloud_grid(inputs[..., :3], maps, dropped, names)
    rows: list[tuple[str, Tensor]] = [("input", data.denormalise(inputs)), ("relevance", maps)]
    rows += [(title, data.denormalise(changed)) for title, changed in occluded.items()]
    return _grid(rows, names)


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
        for image, axis in zip(images.detach().float().cpu(), line, strict=True):
            if image.ndim == 2:
                limit = image.abs().max().item() or 1.0
                axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            elif len(image) == 1:
                axis.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            else:
                axis.imshow(image.clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label.replace("_", "\n"), fontsize=7, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure


def figure_of_run(folder: Path) -> Figure:
    """Return the figure of a finished or running run, with the augmentations of the paper for comparison.

    Raises:
        ReldropError: if the folder holds no run with a checkpoint.
    """
    from omegaconf import OmegaConf

    from reldrop import augmentation as known
    from reldrop.config import build

    missing = [name for name in ("config.yaml", "last.pt") if not (folder / name).is_file()]
    if missing:
        raise ReldropError(f"{folder} is no run folder with a checkpoint ({', '.join(missing)} not found)")
    cfg = OmegaConf.load(folder / "config.yaml")
    data = build(cfg, "dataset")
    model = build(cfg, "backbone", **data.model_options, weights=str(folder / "last.pt"), reset_head=False)
    model.eval()
    shown = {
        "images": (known.RandomErasing, known.RelDropBlock, known.RelDropPatch, known.RelDropPixel),
        "points": (known.RandomPointDropout, known.RelDropPoint),
    }[data.inputs]
    augmentations = {_in_words(augmentation.__name__): augmentation() for augmentation in shown}
    return occlusion_figure(model, data, build(cfg, "attribution"), augmentations)


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

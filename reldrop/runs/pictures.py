"""What trackers show beside numbers: figures, point clouds, curves and confusion matrices, as Weights & Biases has them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Cloud(NamedTuple):
    """A colored point cloud.

    Attributes:
        points: float (N, 3), x, y and z.
        colors: uint8 (N, 3), red, green and blue.
        caption: what it is of.
    """

    points: np.ndarray
    colors: np.ndarray
    caption: str


class Curves(NamedTuple):
    """Curves of one run, on a chart where other runs add theirs.

    Attributes:
        title: of the chart.
        x, y: titles of the axes.
        kind: what tells the curves of a run apart.
        places: where the points are on the x axis.
        values: name of a curve -> its value at each place.
    """

    title: str
    x: str
    y: str
    kind: str
    places: Sequence[float]
    values: Mapping[str, Sequence[float]]


class Confusion(NamedTuple):
    """Which class each sample has, and which the network predicts: two sequences of places in `classes`."""

    labels: Sequence[int]
    predicted: Sequence[int]
    classes: Sequence[str]


Picture = Any  # a matplotlib figure, the path of an image file, or one of the above


def to_wandb(picture: Picture) -> Any:
    """Return what shows a picture at Weights & Biases."""
    import PIL.Image
    import wandb

    match picture:
        case Cloud(points, colors, caption):
            return wandb.Object3D(np.concatenate([points.astype("float32"), colors], 1), caption=caption)
        case Curves(title, x, y, kind, places, values):
            rows = [
                [place, value, name] for name, line in values.items() for place, value in zip(places, line, strict=True)
            ]
            return wandb.plot.line(wandb.Table([x, y, kind], rows), x, y, stroke=kind, title=title)
        case Confusion(labels, predicted, classes):
            names = list(classes)
            return wandb.plot.confusion_matrix(y_true=list(labels), preds=list(predicted), class_names=names)
        case str() | Path():
            return wandb.Image(str(picture))
    buffer = io.BytesIO()  # drawn here: W&B draws a figure itself only where pyplot has been imported
    picture.savefig(buffer, format="png", bbox_inches="tight")
    return wandb.Image(PIL.Image.open(buffer))

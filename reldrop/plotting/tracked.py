"""Pictures of a network in training, for those who track its run."""

from typing import TYPE_CHECKING

import torch

from reldrop.attribution.evaluation import evaluation_mode
from reldrop.data.class_names import class_titles
from reldrop.plotting.examples import occlusion_figure, shown_augmentations
from reldrop.plotting.point_clouds import colored
from reldrop.runs.pictures import Cloud, Confusion, Picture
from reldrop.utils.seeding import generator

if TYPE_CHECKING:
    from reldrop.training.trainer import Trainer

CLOUDS, POINTS = 2, 2048  # clouds that can be turned, and the most points of one
MATRIX_CLASSES = 50  # the most of a confusion matrix


def pictures(trainer: "Trainer", augmentation: str) -> dict[str, Picture]:
    """Return pictures of the network as it is after an epoch, by name.

    These are examples with relevance and what augmentations occlude; of point clouds, two that can be turned; curves of
    accuracy under occlusion, where they have been measured; and after the last epoch the confusion matrix of the test set.

    Args:
        trainer: after an epoch.
        augmentation: the name of the run's own.
    """
    shown = shown_augmentations(trainer.data.kind, trainer.augmentation, augmentation)
    networks = {"relevance": trainer.module}
    found: dict[str, Picture] = {
        "pictures/examples": occlusion_figure(networks, trainer.data, trainer.attribution, shown)
    }
    if trainer.data.kind == "points":
        found |= {f"pictures/cloud_{number}": cloud for number, cloud in enumerate(_clouds(trainer), 1)}
    for curves in (curves for hook in trainer.hooks if (curves := getattr(hook, "curves", None))):
        found["pictures/occlusion_curves"] = curves
    if trainer.finished and trainer.data.num_classes <= MATRIX_CLASSES:
        found["pictures/confusion"] = _confusion(trainer)
    return found


def _clouds(trainer: "Trainer") -> list[Cloud]:
    """Return test samples colored by relevance for their class."""
    device, titles = trainer.fabric.device, class_titles(trainer.data.classes)
    batch = next(trainer.data.eval_batches("test", batch_size=CLOUDS, limit=CLOUDS))
    inputs, targets = batch.inputs.to(device), batch.targets.to(device)
    relevance = trainer.attribution(trainer.module, inputs, targets, generator=generator(0, "figure"))
    some = slice(None, None, -(-inputs.shape[1] // POINTS))
    clouds = zip(inputs[:, some, :3].cpu().numpy().round(4), relevance[:, some].cpu().numpy(), targets, strict=True)
    return [Cloud(points, colored(values), titles[target]) for points, values, target in clouds]


def _confusion(trainer: "Trainer") -> Confusion:
    labels, predicted = [], []
    with evaluation_mode(trainer.module), torch.inference_mode(), trainer.fabric.autocast():
        for batch in trainer.data.eval_batches("test", batch_size=trainer.config.eval_batch_size):
            labels += batch.targets.tolist()
            predicted += trainer.module(batch.inputs).argmax(1).tolist()
    return Confusion(labels, predicted, class_titles(trainer.data.classes))

"""What scripts/benchmark.py times of occlusion curves: the batched one, and a plain loop over samples and steps."""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from reldrop.attribution import GradientLRP
from reldrop.backbones import timm_model
from reldrop.evaluation.occluders import Occluder, predict_masked
from reldrop.metrics import occlusion

BATCHED, LOOP = "in batches", "plain loop over samples and steps"


def flipping_arms(
    options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return both ways to measure the curve of the most relevant pixels first, and how many images each goes through.

    Relevance is theirs to compute.
    """
    torch.manual_seed(0)
    model = timm_model(options.backbone, num_classes=10, size=options.size).to(device).eval()
    inputs = torch.randn(options.samples, 3, options.size, options.size, device=device)
    targets = torch.randint(10, (options.samples,), device=device)
    few = slice(options.loop_samples)
    attribution = GradientLRP()
    arms = {
        BATCHED: partial(batched_curve, model, attribution, inputs, targets, options.steps, options.batch_size),
        LOOP: partial(looped_curve, model, attribution, inputs[few], targets[few], options.steps),
    }
    return arms, {BATCHED: options.samples, LOOP: options.loop_samples}


@torch.no_grad()
def batched_curve(
    model: nn.Module, attribution: GradientLRP, inputs: Tensor, targets: Tensor, steps: int, batch_size: int
) -> Tensor:
    """Return the accuracy after 0 to `steps` steps, as `reldrop.evaluation.robustness` measures it."""
    occluder = Occluder("mean", "images", ((0.5,) * 3, (0.5,) * 3))
    counts = [0, *occlusion.step_counts(inputs[0, 0].numel(), steps)]
    items, curves = torch.arange(len(inputs), device=inputs.device), []
    for images, classes, numbers in zip(
        *(values.split(batch_size) for values in (inputs, targets, items)), strict=True
    ):
        relevance = attribution(model, images, classes)
        masks = occlusion.most_first(occlusion.feature_ranks(relevance), counts, relevance.shape)
        hide, at_once = occluder.start(images, numbers), occluder.masks_per_batch(len(images), batch_size)
        curves.append(predict_masked(model, hide, classes, masks, at_once)[0])
    return torch.cat(curves).double().mean(0)


@torch.no_grad()
def looped_curve(model: nn.Module, attribution: GradientLRP, inputs: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Return the same, sample by sample and step by step."""
    correct = torch.zeros(steps + 1, dtype=torch.float64)
    for image, target in zip(inputs, targets, strict=True):
        relevance = attribution(model, image[None], target[None])[0].flatten()
        order = relevance.argsort(descending=True, stable=True)
        for step in range(steps + 1):
            occluded = image.clone()
            occluded.view(len(image), -1)[:, order[: round(len(order) * step / steps)]] = 0
            correct[step] += (model(occluded[None]).argmax(1) == target).item()
    return correct / len(inputs)

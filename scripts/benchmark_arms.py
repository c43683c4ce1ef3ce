"""What scripts/benchmark.py times of training steps, on images and on point clouds."""

import argparse
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yardstick_pointnet2 import yardstick

from reldrop.attribution import Attribution, GradientLRP, Recycled, ZennitLRP
from reldrop.attribution.recycled import RelevanceCache
from reldrop.augmentation import (
    NoAugmentation,
    RandomErasing,
    RandomPointDropout,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
    RelDropPoint,
)
from reldrop.backbones import point_network, timm_model
from reldrop.data.base import Batch
from reldrop.data.images.batch_crops import draw_crops
from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.distributed.sharding import Shard

PADDING = 4  # of random crops
STATISTICS = (0.5,) * 3, (0.25,) * 3  # mean and std of each channel
Arms = dict[str, Callable[[], None]]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    augmentation: Callable[..., tuple[Tensor, Tensor]],
    relevance: Callable[..., Tensor] | None,
    inputs: Tensor,
    targets: Tensor,
) -> None:
    """The step of reldrop.training.trainer without its bookkeeping."""
    model.train()
    occluded, targets = augmentation(inputs, targets, relevance)
    loss = F.cross_entropy(model(occluded), targets)
    penalty = getattr(model, "penalty", None)  # of PointNet
    if penalty is not None:
        loss = loss + penalty
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def relevance_of(
    attribution: Attribution, model: nn.Module, inputs: Tensor, targets: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return what gives the maps of some rows of the batch, as in training."""

    def relevance(rows: Tensor) -> Tensor:
        whole = len(rows) == len(inputs)
        return attribution(model, *((inputs, targets) if whole else (inputs[rows], targets[rows])))

    return relevance


def recycling_step(
    cache: RelevanceCache, batch: Batch, step: Callable[..., None], augmentation: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """The step with the relevance that its images were left with, which leaves them with another."""
    draws = torch.Generator().manual_seed(0)
    cache.before_step(None, batch)
    step(augmentation, lambda rows: cache.get(batch, rows, draws))
    cache.after_step(None, None)


def evaluation_forward(model: nn.Module, inputs: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        model(inputs)


def input_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """An evaluation forward and the backward pass behind it to the input: what the floor adds to the plain step."""
    model.eval()
    x = inputs.detach().requires_grad_()
    torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)


def image_arms(options: argparse.Namespace, device: torch.device) -> Arms:
    torch.manual_seed(0)
    model = timm_model(options.backbone, num_classes=10, size=options.size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    inputs = torch.randn(options.batch_size, 3, options.size, options.size, device=device)
    targets = torch.randint(10, (options.batch_size,), device=device)
    gradient = relevance_of(GradientLRP(), model, inputs, targets)
    fast = relevance_of(GradientLRP(resolution="auto", until="auto"), model, inputs, targets)
    placed = {"place_by": "block", "border": "inside"}
    step = partial(train_step, model, optimizer, inputs=inputs, targets=targets)
    arms = {
        "plain step": partial(step, NoAugmentation(), None),
        "evaluation forward": partial(evaluation_forward, model, inputs),
        "forward and input gradient": partial(input_gradient, model, inputs, targets),
        "random erasing, p = 1": partial(step, RandomErasing(probability=1.0), None),
        "RelDrop-block, p = 1": partial(step, RelDropBlock(probability=1.0), gradient),
        "RelDrop-block, p = 0.5": partial(step, RelDropBlock(probability=0.5), gradient),
        "RelDrop-block by its sum, p = 1": partial(step, RelDropBlock(probability=1.0, **placed), gradient),
        "RelDrop-fast, p = 1": partial(step, RelDropBlock(probability=1.0, **placed), fast),
        "RelDrop-fast, p = 0.5": partial(step, RelDropBlock(probability=0.5, **placed), fast),
        "RelDrop-patch, p = 1": partial(step, RelDropPatch(probability=1.0), gradient),
        "RelDrop-pixel, p = 1": partial(step, RelDropPixel(probability=1.0), gradient),
        "RelDrop-block, p = 1, recycled": partial(
            recycling_step, *recycled(model, inputs), step, RelDropBlock(probability=1.0)
        ),
        "attribution alone": partial(GradientLRP(), model, inputs, targets),
    }
    if options.zennit:
        arms["RelDrop-block, p = 1, zennit"] = partial(
            step, RelDropBlock(probability=1.0), relevance_of(ZennitLRP(), model, inputs, targets)
        )
    return arms


def in_memory(images: Tensor, targets: Tensor) -> ImageData:
    """Return data of ten classes with these training images, uint8 (N, 3, S, S), which are cropped and flipped."""
    split = ImageSplit(images, targets)
    names = tuple("0123456789")
    return ImageData("noise", names, images.shape[-1], *STATISTICS, "", split, split, None, PADDING, True)


def go_through(
    epoch: Callable[[], Iterable[tuple[Tensor, ...]]], step: Callable[[Tensor, Tensor], None] | None = None
) -> None:
    """Make the batches of an epoch, and perhaps train on them."""
    for inputs, targets, *_ in epoch():
        if step is not None:
            step(inputs, targets)


def recycled(model: nn.Module, inputs: Tensor) -> tuple[RelevanceCache, Batch]:
    """Return a cache for as many images as there are inputs, and a batch of all of them."""
    count, device = len(inputs), inputs.device
    images, targets = torch.zeros(inputs.shape, dtype=torch.uint8), torch.zeros(count, dtype=torch.long)
    data = in_memory(images, targets).to(device)
    crops = draw_crops(count, PADDING, True, torch.Generator().manual_seed(0)).to(device)
    batch = Batch(inputs, targets.to(device), torch.arange(count, device=device), Shard.whole(count), crops)
    return Recycled().cache(model, data), batch


def point_arms(options: argparse.Namespace, device: torch.device) -> Arms:
    torch.manual_seed(0)
    model = point_network(options.backbone, num_classes=10, channels=6).to(device)
    normals = F.normalize(torch.randn(options.batch_size, options.points, 3, device=device), dim=-1)
    inputs = torch.cat([normals, normals], -1)  # points on the unit sphere, where a point is its own normal
    targets = torch.randint(10, (options.batch_size,), device=device)
    gradient = relevance_of(GradientLRP(), model, inputs, targets)
    step = partial(train_step, model, torch.optim.Adam(model.parameters(), lr=1e-3), inputs=inputs, targets=targets)
    arms = {"plain step": partial(step, NoAugmentation(), None)}
    if options.backbone != "pointnet":
        usual = yardstick(options.backbone, num_classes=10).to(device)
        optimizer = torch.optim.Adam(usual.parameters(), lr=1e-3)
        arms["yardstick step"] = partial(
            train_step, usual, optimizer, NoAugmentation(), None, inputs.transpose(1, 2), targets
        )
    arms |= {
        "evaluation forward": partial(evaluation_forward, model, inputs),
        "forward and input gradient": partial(input_gradient, model, inputs, targets),
        "random point dropout, p = 1": partial(step, RandomPointDropout(), None),
        "RelDrop-point, p = 1": partial(step, RelDropPoint(probability=1.0), gradient),
        "attribution alone": partial(GradientLRP(), model, inputs, targets),
    }
    if options.zennit:
        zennit = relevance_of(ZennitLRP(), model, inputs, targets)
        arms["RelDrop-point, p = 1, zennit"] = partial(step, RelDropPoint(probability=1.0), zennit)
    return arms

"""Parts that break a promise are refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import CenterPrior, GradientLRP, InputGradient, RandomRelevance
from reldrop.augmentation import (
    NoAugmentation,
    RandomErasing,
    RandomPointDropout,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
    RelDropPoint,
)
from reldrop.augmentation.base import Augmentation
from reldrop.training.contracts import check_attribution, check_augmentation
from reldrop.utils.errors import ReldropError

IMAGES, TARGETS = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])


@pytest.mark.parametrize("attribution", [GradientLRP(), InputGradient(), RandomRelevance(), CenterPrior()])
def test_our_attributions_keep_their_promises(tiny: nn.Module, attribution: Any) -> None:
    check_attribution(attribution, tiny, IMAGES, TARGETS)


@pytest.mark.parametrize(
    ("augmentation", "shape"),
    [
        *(
            (part(), (2, 3, 16, 16))
            for part in (NoAugmentation, RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel)
        ),
        *((part(), (2, 50, 6)) for part in (NoAugmentation, RandomPointDropout, RelDropPoint)),
    ],
)
def test_our_augmentations_keep_their_promises(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    check_augmentation(augmentation, torch.randn(shape), 10)


def good(model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
    return inputs.abs().sum(1)


def in_training_mode(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
    with torch.no_grad():
        model(inputs)  # updates the statistics of batch norms
    return inputs.sum(1)


def leaves_gradients(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
    flags = [module.training for module in model.modules()]
    model.eval()(inputs).sum().backward()
    for module, training in zip(model.modules(), flags, strict=True):
        module.training = training
    return inputs.sum(1)


def leaves_evaluation_mode(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
    model.eval()
    return inputs.sum(1)


def draws_globally(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
    return torch.rand(len(inputs), *inputs.shape[2:])


def writes_inputs(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Any = None) -> Tensor:
    return inputs.mul_(2).sum(1)


@pytest.mark.parametrize(
    ("attribution", "promise"),
    [
        (in_training_mode, "changes the buffers of"),
        (leaves_gradients, "changes the gradients of conv1.weight"),
        (leaves_evaluation_mode, "changes the training flags"),
        (draws_globally, "changes the global random state"),
        (writes_inputs, "changes the inputs"),
        (
            lambda *_, **__: torch.zeros(2, 3, 16, 16),
            r"returns a tensor \(2, 3, 16, 16\).*must return a tensor \(2, 16, 16\)",
        ),
        (lambda *_, **__: None, "returns a NoneType as relevance"),
        (lambda *_, **__: torch.full((2, 16, 16), torch.nan), "not finite"),
        (lambda *_, **__: torch.zeros(2, 16, 16, requires_grad=True), "must be detached"),
        (
            lambda *_, **__: 1 / 0,
            r"fails on a batch of two: ZeroDivisionError: division by zero \(.*test_contracts.py, line",
        ),
    ],
)
def test_an_attribution_that_breaks_a_promise_is_refused(
    tiny: nn.Module, attribution: Callable[..., Any], promise: str
) -> None:
    check_attribution(good, tiny, IMAGES.clone(), TARGETS)
    with pytest.raises(ReldropError, match=promise):
        check_attribution(attribution, tiny, IMAGES.clone(), TARGETS)


def writes(inputs: Tensor, targets: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return inputs.zero_(), targets


def one_hot(scale: float) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda inputs, targets, *_: (inputs, scale * torch.eye(10)[targets])


@pytest.mark.parametrize(
    ("augmentation", "promise"),
    [
        (lambda inputs, *_: inputs, "returns a tensor .* it must return inputs and targets"),
        (lambda inputs, targets, *_: (inputs[:1], targets), r"as inputs; it must return a tensor \(2, 3, 16, 16\)"),
        (lambda inputs, targets, *_: (inputs.double(), targets), "must keep torch.float32"),
        (lambda inputs, targets, *_: (inputs, targets[:1]), r"classes \(2,\) or probabilities \(2, 10\) that sum to 1"),
        (one_hot(0.5), "that sum to 1"),
        (writes, "changes the inputs"),
        (lambda inputs, targets, *_: (inputs + torch.rand(1), targets), "changes the global random state"),
        (lambda *_: [][0], "fails on a batch of two: IndexError"),
    ],
)
def test_an_augmentation_that_breaks_a_promise_is_refused(augmentation: Callable[..., Any], promise: str) -> None:
    check_augmentation(one_hot(1.0), IMAGES.clone(), 10)
    with pytest.raises(ReldropError, match=promise):
        check_augmentation(augmentation, IMAGES.clone(), 10)

"""Parts that break a promise are refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
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
from reldrop.training.contracts import (
    check_attribution,
    check_augmentation,
    check_backbone,
    check_kinds,
    naming,
    warn_of_relevance,
)
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
        (lambda *_, **__: torch.from_numpy(np.random.rand(2, 16, 16)), "must be drawn from `generator`"),
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
        (lambda inputs, targets, *_: (inputs + np.random.rand(), targets), "must be drawn from `generator`"),
        (lambda *_: [][0], "fails on a batch of two: IndexError"),
    ],
)
def test_an_augmentation_that_breaks_a_promise_is_refused(augmentation: Callable[..., Any], promise: str) -> None:
    check_augmentation(one_hot(1.0), IMAGES.clone(), 10)
    with pytest.raises(ReldropError, match=promise):
        check_augmentation(augmentation, IMAGES.clone(), 10)


class Head(nn.Module):
    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(3, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.mean((2, 3)))


class Writes(Head):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.mul_(2))


class Pair(Head):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs), inputs


class Fixed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(len(inputs), 10)


@pytest.mark.parametrize(
    ("model", "promise"),
    [
        (Head(9), r"backbone Head returns a tensor \(2, 9\) .*must return a tensor \(2, 10\)"),
        (Writes(), "backbone Writes changes the inputs"),
        (Pair(), "backbone Pair returns a tuple as logits"),
        (Fixed(), "backbone Fixed has no parameters to train"),
        (nn.Linear(7, 10), "backbone Linear fails on a batch of two: RuntimeError"),
    ],
)
def test_a_backbone_that_breaks_a_promise_is_refused(model: nn.Module, promise: str) -> None:
    check_backbone(Head(), IMAGES.clone(), 10)
    with pytest.raises(ReldropError, match=promise):
        check_backbone(model, IMAGES.clone(), 10)


class Corner(Head):
    """Sees one place alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        seen = torch.zeros(16, 16)
        seen[0, 0] = 1
        return super().forward(inputs * seen)


def test_warns_of_maps_not_to_be_trusted(tiny: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_relevance(GradientLRP(), tiny, IMAGES)
    warn_of_relevance(InputGradient(), Corner(), IMAGES)
    assert not caplog.records
    warn_of_relevance(GradientLRP(), Corner(), IMAGES)
    said = "attribution GradientLRP on a random batch: 0.1 % of the positions hold 100% of the absolute relevance"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_part_of_another_class_is_refused() -> None:
    check_kinds(backbone=(Head(), nn.Module))
    with pytest.raises(
        ReldropError, match=r"augmentation function is no Augmentation; .* see reldrop.augmentation.base"
    ):
        check_kinds(augmentation=(writes, Augmentation))


def test_an_error_is_named_by_the_part_whose_file_raises_it() -> None:
    model, promise = Head(), r"backbone Head fails: RuntimeError: .* \(.*test_contracts.py, line"
    with pytest.raises(ReldropError, match=promise), naming(attribution=GradientLRP(), backbone=model):
        model(torch.zeros(2, 5, 4, 4))
    with pytest.raises(ZeroDivisionError), naming(attribution=GradientLRP()):
        1 / 0  # noqa: B018

"""The attribution as one graph: the same maps, following the weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reldrop.attribution import GradientLRP
from reldrop.utils.errors import ReldropError
from tests.helpers.networks import timm_model
from tests.helpers.user_networks import COVERED, plain


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Graphs are replayed as they were captured, which takes no compiler; all of them."""
    found: list[nn.Module] = []

    def keep(graph: nn.Module, **options: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", keep)
    return found


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_replays_exactly_and_follows_the_weights(name: str, captures: list[nn.Module]) -> None:
    model = timm_model(name)
    inputs, targets = torch.randn(3, 3, 64, 64), torch.tensor([1, 2, 3])
    attribution, eager = GradientLRP(compile=True), GradientLRP()
    assert torch.equal(attribution(model, inputs, targets), eager(model, inputs, targets))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(model.train()(inputs), targets).backward()
    optimizer.step()
    others = torch.randn_like(inputs), targets.flip(0)
    assert torch.equal(attribution(model, *others), eager(model, *others))
    assert len(captures) == 1
    attribution(model, inputs[:2], targets[:2])
    assert len(captures) == 2


def test_captures_again_where_a_parameter_is_replaced(captures: list[nn.Module]) -> None:
    model, inputs, targets = plain(), torch.randn(2, 3, 16, 16), torch.tensor([1, 2])
    attribution = GradientLRP(compile=True)
    attribution(model, inputs, targets)
    model[8] = nn.Linear(16, 10)
    assert torch.equal(attribution(model, inputs, targets), GradientLRP()(model, inputs, targets))
    assert len(captures) == 2


def test_refuses_what_a_graph_cannot_follow(captures: list[nn.Module]) -> None:
    with pytest.raises(ReldropError, match=r"compile=true .*ControlFlow.* false"):
        GradientLRP(compile=True)(COVERED["control flow"](), torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))


@pytest.mark.slow
def test_compiled(batch: tuple) -> None:
    """By torch's compiler itself, which takes a minute for a larger network."""
    torch.manual_seed(0)
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10))
    found = GradientLRP(compile=True)(small, *batch)
    torch.testing.assert_close(found, GradientLRP()(small, *batch), rtol=1e-3, atol=1e-5)

"""Rules, starts and targets of GradientLRP, against zennit and closed forms; the number of operations."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from reldrop.attribution import GradientLRP, ZennitLRP
from reldrop.attribution.rules import names
from tests.helpers.attribution import images
from tests.helpers.networks import randomize, timm_model


@pytest.mark.parametrize("rule", ["gamma", "wsquare", "box"])
def test_equals_zennit(rule: str) -> None:
    from zennit.composites import SpecialFirstLayerMapComposite, layer_map_base
    from zennit.rules import Epsilon, Flat, Gamma, WSquare, ZBox
    from zennit.types import Convolution, Linear

    from reldrop.attribution.canonizer import ResidualCanonizer

    first = {"gamma": Flat(), "wsquare": WSquare(zero_params="bias"), "box": ZBox(-4.0, 5.0)}[rule]
    behind = (
        [((Convolution,), Gamma(0.3)), ((Linear,), Epsilon(1e-3))] if rule == "gamma" else [((Linear,), Epsilon(1e-3))]
    )
    oracle = ZennitLRP()
    oracle.composite = SpecialFirstLayerMapComposite(
        layer_map_base() + behind, [((Convolution,), first)], canonizers=[ResidualCanonizer()]
    )
    settings = (
        {"conv_rule": "gamma", "gamma": 0.3} if rule == "gamma" else {"input_rule": rule, "low": -4.0, "high": 5.0}
    )
    model = randomize(timm_model("resnet18"))
    inputs, targets = images()
    expected = oracle(model, inputs, targets)
    found = GradientLRP(**settings)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_log_softmax_equals_zennit() -> None:
    model = randomize(timm_model("resnet18"))
    inputs, targets = images()
    expected = ZennitLRP(output="log_softmax")(model, inputs, targets)
    found = GradientLRP(start="log_softmax")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_starts_and_soft_targets() -> None:
    """Relevance is linear in where it starts: as the logit it is that much larger, and probabilities mix classes."""
    model = randomize(timm_model("resnet18")).eval()
    inputs, targets = images()
    one = GradientLRP()(model, inputs, targets)
    logits = model(inputs).gather(1, targets[:, None]).detach()
    torch.testing.assert_close(GradientLRP(start="logit")(model, inputs, targets), one * logits[..., None])
    other = GradientLRP()(model, inputs, (targets + 1) % 10)
    soft = 0.7 * nn.functional.one_hot(targets, 10) + 0.3 * nn.functional.one_hot((targets + 1) % 10, 10)
    torch.testing.assert_close(GradientLRP()(model, inputs, soft), 0.7 * one + 0.3 * other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision(dtype: torch.dtype) -> None:
    model = randomize(timm_model("resnet18")).float()
    inputs, targets = (value[:2] for value in images())
    full = GradientLRP()(model, inputs.float(), targets)
    half = GradientLRP()(model.to(dtype), inputs.to(dtype), targets)
    assert half.dtype == torch.float32
    for a, b in zip(full, half, strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.95


class _Counter(TorchDispatchMode):
    """Counts operations that run on a device: not those that only look at a tensor in another way."""

    views = names("view reshape expand detach alias transpose permute slice select unsqueeze squeeze as_strided t")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = function.name().split("::")[1].split(".")[0].lstrip("_")
        self.count += name not in self.views and name != "promote_types"
        return function(*args, **(kwargs or {}))


def test_number_of_operations() -> None:
    """Each costs a launch on a GPU, which small networks wait for."""
    model = timm_model("resnet18").eval()
    inputs, targets = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    attribution = GradientLRP()
    attribution(model, inputs, targets)  # recorded
    with _Counter() as counter:
        attribution(model, inputs, targets)
    assert counter.count <= 190

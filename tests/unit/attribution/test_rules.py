"""Conservation and closed forms."""

import pytest
import torch
from torch import nn

from reldrop.attribution import GradientLRP
from reldrop.attribution.forms import damped, rectified, stabilize, zplus
from tests.helpers.attribution import images
from tests.helpers.networks import randomize, timm_model


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_conserves_without_biases(name: str) -> None:
    model = randomize(timm_model(name), biases=False)
    inputs, targets = images()
    total = GradientLRP(epsilon=0.0, stabilizer=0.0)(model, inputs, targets).sum((1, 2))
    assert (total - 1).abs().max() < 1e-6


def test_zplus_conserves_without_biases() -> None:
    model = randomize(timm_model("resnet18"), biases=False)
    inputs, targets = images()
    total = GradientLRP(epsilon=0.0, conv_rule="zplus")(model, inputs, targets).sum((1, 2))
    assert (total - 1).abs().max() < 1e-3  # its stabilizer cannot be left out: z+ may be zero


def test_epsilon_zero_is_gradient_times_input() -> None:
    model = randomize(timm_model("resnet18")).eval()
    inputs, targets = images()
    x = inputs.clone().requires_grad_()
    logits = model(x).gather(1, targets[:, None])[:, 0]
    (grad,) = torch.autograd.grad(logits.sum(), x)
    expected = (grad * x).sum(1) / logits[:, None, None]
    found = GradientLRP(epsilon=0.0, input_rule="epsilon", stabilizer=0.0)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_one_layer_by_hand() -> None:
    """conv -> relu -> mean -> linear, small enough to write the relevance down."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3, bias=False)
    ).double()
    x = torch.rand(1, 1, 3, 3).double()
    a = model[0](x).relu()[0]  # (2, 2, 2)
    z = model[4].weight[1] @ a.mean((1, 2))
    at_stem = (a * model[4].weight[1][:, None, None] / 4 / z).sum(0)
    expected = torch.zeros(3, 3).double()
    for i in range(2):
        for j in range(2):
            expected[i : i + 2, j : j + 2] += at_stem[i, j] / 4
    found = GradientLRP(epsilon=0.0)(model, x, torch.tensor([1]))[0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_rules_against_their_formulas() -> None:
    z = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(damped(z, 0.5).sum(), z)
    torch.testing.assert_close(grad, torch.tensor([0.8, 0.5, 0.0, 0.5, 0.8]).double())
    (grad,) = torch.autograd.grad(rectified(z, 0.5).sum(), z)
    torch.testing.assert_close(grad, torch.tensor([0.0, 0.0, 0.0, 0.5, 0.8]).double())
    torch.testing.assert_close(stabilize(z.detach(), 0.1)[2], torch.tensor(0.1).double())

    x, w, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 3), (2, 3), (2,)))
    r = torch.randn(4, 2, dtype=torch.float64)
    x.requires_grad_()
    z = zplus(torch.nn.functional.linear, x, w, b, 1e-6)
    (grad,) = torch.autograd.grad(z, x, r / z.detach())
    share = x.clamp(min=0)[:, None] * w.clamp(min=0) + x.clamp(max=0)[:, None] * w.clamp(max=0)  # (4, 2, 3)
    total = share.sum(-1) + b.clamp(min=0)
    expected = (share * (r / (total + 1e-6))[:, :, None]).sum(1)
    torch.testing.assert_close(grad * x, expected, rtol=1e-9, atol=1e-12)

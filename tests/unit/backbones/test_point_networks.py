"""Point networks."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from reldrop.backbones import point_network
from reldrop.backbones.point_layers import NormMax, PointNorm
from reldrop.backbones.pointnet import not_orthogonal
from reldrop.utils.errors import ReldropError
from tests.helpers.point_networks import NETWORKS, clouds, make_plain, named, small


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["small", "pointnet"])
def test_the_cheap_order_equals_the_plain_one(name: str, training: bool) -> None:
    model = (small() if name == "small" else named("pointnet")).train(training)
    for module in model.modules():
        if isinstance(module, PointNorm):
            module.weight.data[::3] *= -1  # turned round: then the smallest value becomes the largest
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    plain = make_plain(model)
    inputs = clouds()
    outputs = []
    for network in (model, plain):
        x = inputs.clone().requires_grad_()
        logits = network(x)
        logits.square().sum().backward()
        outputs.append((logits, x.grad, [p.grad for p in network.parameters()], list(network.buffers())))
    (a, grad_a, weights_a, buffers_a), (b, grad_b, weights_b, buffers_b) = outputs
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-7, atol=1e-9 * float(grad_b.abs().max()))
    scale = max(float(grad.abs().max()) for grad in weights_b)
    for found, expected in zip(weights_a, weights_b, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * scale)
    for found, expected in zip(buffers_a, buffers_b, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_norm_max_passes_gradcheck() -> None:
    torch.manual_seed(0)
    layer = NormMax(3, rectify=False).double()
    layer.norm.weight.data = torch.tensor([1.5, -0.5, 0.7]).double()
    x = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w, b: _with(layer, w, b)(x), (x, layer.norm.weight, layer.norm.bias))


def _with(layer: NormMax, weight: Tensor, bias: Tensor) -> NormMax:
    layer.norm.weight, layer.norm.bias = weight, bias
    return layer


# Numbers of parameters of the PyTorch networks whose accuracies are quoted (40 classes), worked out by hand from their
# layer sizes: weights, biases and two of batch norm for each.
@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        ("pointnet", 3, 3_471_473),
        ("pointnet", 6, 3_471_473 + 3 * 64),
        ("pointnet2_ssg", 3, 1_475_688),
        ("pointnet2_ssg", 6, 1_475_688 + 3 * 64),
        ("pointnet2_msg", 3, 1_747_368),
        ("pointnet2_msg", 6, 1_747_368 + 3 * (32 + 64 + 64)),
    ],
)
def test_numbers_of_parameters(name: str, channels: int, parameters: int) -> None:
    model = point_network(name, num_classes=40, channels=channels)
    assert sum(p.numel() for p in model.parameters()) == parameters


def layers(*widths: int) -> int:
    return sum(a * b + b + 2 * b for a, b in pairwise(widths))


def test_numbers_of_parameters_by_hand() -> None:
    head = layers(1024, 512, 256) + 256 * 40 + 40
    ssg = layers(3, 64, 64, 128) + layers(131, 128, 128, 256) + layers(259, 256, 512, 1024) + head
    first = layers(3, 32, 32, 64) + layers(3, 64, 64, 128) + layers(3, 64, 96, 128)
    second = layers(323, 64, 64, 128) + 2 * layers(323, 128, 128, 256)
    msg = first + second + layers(643, 256, 512, 1024) + head
    nets = [layers(k, 64, 128, 1024, 512, 256) + 256 * k * k + k * k for k in (3, 64)]
    pointnet = sum(nets) + layers(3, 64, 128, 1024) + head
    assert (pointnet, ssg, msg) == (3_471_473, 1_475_688, 1_747_368)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [5, 40, 700])
def test_any_number_of_points_with_and_without_normals(name: str, size: int) -> None:
    for channels in (3, 6):
        model = point_network(name, num_classes=4, channels=channels).eval()
        with torch.no_grad():
            assert model(clouds(2, size, channels, torch.float32)).shape == (2, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    model = point_network(name, num_classes=4, channels=6).train()
    loss = nn.functional.cross_entropy(model(clouds(4, 60, 6, torch.float32)), torch.arange(4))
    if name == "pointnet":
        assert model.penalty > 0
        loss = loss + model.penalty
    loss.backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key


def test_the_order_of_points_does_not_matter_but_for_the_first() -> None:
    """With balls that hold all of their points, only where sampling starts depends on the order."""
    model = named("pointnet2_ssg").eval()
    inputs = clouds(2, 30)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(29)])
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), model(inputs[:, order]), rtol=1e-9, atol=1e-9)


def test_orthogonality_by_hand() -> None:
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert not_orthogonal(turn[None]) == 0
    both = torch.stack([turn, 2 * torch.eye(2)])  # 4 - 1 on the diagonal, twice: norm 3 sqrt(2)
    torch.testing.assert_close(not_orthogonal(both), torch.tensor(3 * 2**0.5 / 2))


def test_wrong_network() -> None:
    with pytest.raises(ReldropError, match="pointnet2_ssg"):
        point_network("pointnet3", num_classes=4)

"""Relevance at a lower price: at a layer, of a smaller image, in bf16."""

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import GradientLRP
from reldrop.attribution.layers import as_map, enlarged, map_size, reduced
from reldrop.utils.errors import ReldropError
from tests.helpers.attribution import images
from tests.helpers.networks import randomize, timm_model
from tests.helpers.point_networks import clouds, small


class Split(nn.Module):
    """A network in two parts."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU())
        self.tail = nn.Sequential(
            nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.head(x))


def network() -> Split:
    model = Split().double().eval()
    model(images()[0][:1])
    return randomize(model)


def test_relevance_at_a_layer_is_that_of_the_rest_of_the_network() -> None:
    model, (inputs, targets) = network(), images()
    features = model.head(inputs).detach()
    expected = GradientLRP(input_rule="epsilon")(model.tail, features, targets)
    for until in ("head", "head.3"):
        attribution = GradientLRP(until=until)
        found = attribution.eager(model, inputs, targets)
        assert (found - expected).abs().max() < 1e-12 * expected.abs().max()
        assert torch.equal(attribution(model, inputs, targets), enlarged(found, inputs.shape[2:]))


def test_all_relevance_passes_through_the_layers_that_are_chosen() -> None:
    """Without epsilon and biases, the sum at any complete layer is the logit's."""
    model = randomize(timm_model("resnet18"))
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    inputs, targets = images()
    for until in ("layer2", 0.3, 0.6, 0.9):
        found = GradientLRP(epsilon=0, stabilizer=0, until=until).eager(model, inputs, targets)
        torch.testing.assert_close(found.sum((1, 2)), torch.ones(len(inputs), dtype=found.dtype))


@pytest.mark.parametrize(
    ("name", "size", "until", "expected"),
    [
        ("resnet18", 64, "auto", (8, 8)),  # layer2; layer3 has 4 by 4
        ("resnet18", 64, 0.75, (4, 4)),
        ("vit_tiny_patch16_224", 224, "auto", (14, 14)),  # without the class token
        ("convnext_atto", 64, "auto", (8, 8)),
    ],
)
def test_which_layer_is_chosen(name: str, size: int, until: str | float, expected: tuple[int, int]) -> None:
    model = timm_model(name).float().eval()
    inputs = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    attribution = GradientLRP(until=until)
    assert attribution.eager(model, inputs, torch.tensor([1])).shape[1:] == expected
    assert attribution(model, inputs, torch.tensor([1])).shape == (1, size, size)
    kept = [call for call in attribution.plan(model).calls if call.kept]
    assert len(kept) == 1


def test_auto_without_a_fit_layer_is_the_input() -> None:
    model, (inputs, targets) = network(), images()
    small_images = inputs[..., :6, :6]
    model = nn.Sequential(model.head, nn.Flatten(), nn.LazyLinear(10)).double().eval()
    model(small_images[:1])
    assert torch.equal(
        GradientLRP(until="auto")(model, small_images, targets), GradientLRP()(model, small_images, targets)
    )


def test_a_smaller_image() -> None:
    model, (inputs, targets) = randomize(timm_model("resnet18")), images()
    found = GradientLRP(resolution=0.5)(model, inputs, targets)
    expected = GradientLRP()(model, nn.functional.avg_pool2d(inputs, 2), targets)
    assert found.shape == (len(inputs), *inputs.shape[2:])
    torch.testing.assert_close(found, enlarged(expected, tuple(inputs.shape[2:])))
    torch.testing.assert_close(found.sum((1, 2)), expected.sum((1, 2)), rtol=0.1, atol=0.05)


def test_auto_halves_large_images_only() -> None:
    assert reduced(torch.zeros(1, 3, 64, 96), "auto").shape == (1, 3, 32, 48)
    assert reduced(torch.zeros(1, 3, 63, 96), "auto").shape == (1, 3, 63, 96)
    cloud = torch.zeros(1, 80, 3)
    assert reduced(cloud, "auto") is cloud


def test_a_network_of_one_size_gets_the_layer_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = timm_model("vit_tiny_patch16_224", img_size=64, patch_size=8).float().eval()
    inputs, targets = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    attribution = GradientLRP(until="auto", resolution=0.5)
    with caplog.at_level(logging.WARNING, "reldrop"):
        found = [attribution(model, inputs, targets) for _ in range(2)]
    assert torch.equal(found[0], GradientLRP(until="auto")(model, inputs, targets))
    (message,) = caplog.messages  # once
    assert "VisionTransformer takes no images of 32x32 pixels" in message


def test_bf16_for_the_attribution_alone() -> None:
    model, (inputs, targets) = randomize(timm_model("resnet18")).float(), images()
    inputs = inputs.float()
    with torch.autocast("cpu", torch.bfloat16):
        expected = GradientLRP()(model, inputs, targets)
    found = GradientLRP(precision="bf16")(model, inputs, targets)
    assert torch.equal(found, expected)
    assert not torch.equal(found, GradientLRP()(model, inputs, targets))
    assert not torch.is_autocast_enabled("cpu")


def test_defaults_are_what_they_were() -> None:
    """Bit for bit, also beside an attribution that ends at a layer of the same network."""
    model, (inputs, targets) = randomize(timm_model("resnet18")), images()
    before = GradientLRP()(model, inputs, targets)
    state = copy.deepcopy(model.state_dict())
    GradientLRP(until="auto", resolution=0.5)(model, inputs, targets)
    assert torch.equal(before, GradientLRP(resolution=1.0, until=None, precision=None)(model, inputs, targets))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_maps_of_images_that_are_not_square() -> None:
    assert map_size((1, 64, 12, 16), (48, 64)) == (12, 16)
    assert map_size((1, 12, 16, 64), (48, 64)) == (12, 16)
    assert map_size((1, 12 * 16 + 1, 64), (48, 64)) == (12, 16)
    assert map_size((1, 64), (48, 64)) is None
    assert map_size((1, 64, 1, 1), (48, 64)) is None
    tokens = torch.arange(7.0)[None, :, None].expand(1, 7, 2)
    assert torch.equal(as_map(tokens, (2, 3)), 2 * torch.arange(1.0, 7.0).view(1, 2, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"until": "layer9"}, "attribution.until=layer9 is no module of this network.*did you mean layer"),
        ({"until": "fc"}, "attribution.until=fc has no map of the image"),
        ({"until": 0.01}, "attribution.until=0.01: no layer of this network comes that early"),
    ],
)
def test_layers_that_are_none(settings: dict[str, str | float], message: str) -> None:
    model, (inputs, targets) = randomize(timm_model("resnet18")), images()
    with pytest.raises(ReldropError, match=message):
        GradientLRP(**settings)(model, inputs, targets)


@pytest.mark.parametrize("settings", [{"until": "auto"}, {"resolution": 0.5}])
def test_clouds_have_points_only(settings: dict[str, str | float]) -> None:
    (key,) = settings
    with pytest.raises(ReldropError, match=f"attribution.{key}=.* is for images"):
        GradientLRP(**settings)(small().float(), clouds(dtype=torch.float32), torch.arange(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 0}, "resolution=0 must be above 0"),
        ({"resolution": "half"}, "resolution='half' must be"),
        ({"until": 2.0}, "until=2.0 must be below 1"),
        ({"precision": "fp8"}, "precision='fp8' must be 'bf16' or null"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        GradientLRP(**settings)

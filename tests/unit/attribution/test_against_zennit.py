"""Equal to zennit."""

import pytest
import torch
import torchvision
from torch import nn

from reldrop.attribution import GradientLRP, RandomRelevance, ZennitLRP
from tests.helpers.attribution import images
from tests.helpers.networks import randomize, timm_model


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1e-3, 0.25])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnetblur50", "torchvision"])
def test_epsilon_equals_zennit(name: str, epsilon: float) -> None:
    if name == "torchvision":
        model = randomize(torchvision.models.resnet18(num_classes=10))
    else:
        model = randomize(timm_model(name))
    inputs, targets = images(40)
    expected = ZennitLRP("epsilon_flat", epsilon=epsilon)(model, inputs, targets)
    found = GradientLRP(epsilon=epsilon)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetblur50"])
def test_zplus_equals_zennit(name: str) -> None:
    model = randomize(timm_model(name))
    inputs, targets = images(40)
    expected = ZennitLRP("epsilon_plus_flat", epsilon=1e-3)(model, inputs, targets)
    found = GradientLRP(epsilon=1e-3, conv_rule="zplus")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_epsilon_stem_equals_zennit_without_flat() -> None:
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    from reldrop.attribution.canonizer import ResidualCanonizer

    oracle = ZennitLRP()
    oracle.composite = LayerMapComposite([*layer_map_base(), ((Linear,), Epsilon(1e-2))], [ResidualCanonizer()])
    model = randomize(timm_model("resnet18"))
    inputs, targets = images()
    expected = oracle(model, inputs, targets)
    found = GradientLRP(epsilon=1e-2, input_rule="epsilon")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_drop_path_and_dropout_are_off() -> None:
    model = randomize(timm_model("resnet18", drop_path_rate=0.5, drop_rate=0.5))
    inputs, targets = images()
    plain = randomize(timm_model("resnet18"))
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        GradientLRP()(model, inputs, targets), GradientLRP()(plain, inputs, targets), rtol=1e-9, atol=1e-12
    )


def test_official_copies_relevance_at_residual_sums_and_so_explodes() -> None:
    model = randomize(timm_model("resnet18"), biases=False)
    inputs, targets = images()
    conserving = ZennitLRP(canonizer="timm", epsilon=0.0)(model, inputs, targets).sum((1, 2))
    official = ZennitLRP(canonizer="torchvision", epsilon=0.0)(model, inputs, targets).sum((1, 2))
    torch.testing.assert_close(conserving, torch.ones(2).double(), atol=1e-4, rtol=0)
    # Relevance is copied to both branches of each of the 8 blocks, and what both copies hold is added up again.
    assert (official.abs() > 50).all()


@pytest.mark.parametrize("name", ["seresnet18", "resnet18"])
def test_zennit_conserves_with_squeeze_and_excitation(name: str) -> None:
    model = randomize(timm_model(name), biases=False)
    inputs, targets = images(40)
    total = ZennitLRP(epsilon=0.0)(model, inputs, targets).sum((1, 2))
    torch.testing.assert_close(total, torch.ones(2).double(), atol=1e-3, rtol=0)


def test_other_zennit_composites(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    for name, options in {"epsilon_gamma_box": {"low": -3.0, "high": 3.0}, "guided_backprop": {}}.items():
        found = ZennitLRP(name, options=options)(tiny, inputs, targets)
        assert found.isfinite().all()
        assert found.abs().sum() > 0


def test_random_draws_from_the_generator_it_is_given(tiny: nn.Module, batch: tuple) -> None:
    draws = [RandomRelevance()(tiny, *batch, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_equals_zennit_on_trained_weights(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    optimizer = torch.optim.SGD(tiny.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(tiny(inputs), targets).backward()
        optimizer.step()
    model = tiny.double()
    expected = ZennitLRP("epsilon_flat", epsilon=1e-3)(model, inputs.double(), targets)
    found = GradientLRP(epsilon=1e-3)(model, inputs.double(), targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()

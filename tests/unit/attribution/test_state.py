"""Leaves everything as found."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from reldrop.attribution import (
    CenterPrior,
    GradientLRP,
    InputGradient,
    RandomRelevance,
    ReleaseLRP,
    ZennitLRP,
    check,
    relevance,
)
from reldrop.attribution.evaluation import no_checkpointing
from tests.helpers.networks import randomize, timm_model

ALL = {
    "gradient": GradientLRP,
    "zplus": lambda: GradientLRP(conv_rule="zplus"),
    "zennit": ZennitLRP,
    "release": ReleaseLRP,
    "center": CenterPrior,
    "input_gradient": InputGradient,
    "random": RandomRelevance,
}


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_leaves_all_as_found(name: str, precision: torch.dtype | None, tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    tiny.train()
    tiny.layer2.eval()  # mixed flags have to survive as well
    tiny(inputs).sum().backward()
    identities = {key: id(value) for key, value in tiny.named_parameters()}
    state = copy.deepcopy(tiny.state_dict())
    grads = {key: value.grad.clone() for key, value in tiny.named_parameters()}
    flags = {key: module.training for key, module in tiny.named_modules()}
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny.modules())
    random_state = torch.get_rng_state()
    before = inputs.clone()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        expected = None if precision is None else tiny.fc(torch.ones(1, 128))  # fills the autocast cache
        found = ALL[name]()(tiny, inputs, targets)
        assert torch.is_autocast_enabled("cpu") == (precision is not None)
        if expected is not None:
            again = tiny.fc(torch.ones(1, 128))
            assert torch.autograd.grad(again.float().sum(), tiny.fc.weight)[0].abs().sum() > 0
    assert found.shape == (6, 16, 16)
    assert not found.requires_grad
    assert torch.equal(before, inputs)
    assert not inputs.requires_grad
    assert {key: id(value) for key, value in tiny.named_parameters()} == identities
    assert all(torch.equal(value, state[key]) for key, value in tiny.state_dict().items())
    assert all(torch.equal(value.grad, grads[key]) for key, value in tiny.named_parameters())
    assert all(value.requires_grad for value in tiny.parameters())
    assert {key: module.training for key, module in tiny.named_modules()} == flags
    assert hooks == sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_learns_after_attribution(name: str, tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    nn.init.ones_(tiny.layer1[0].bn2.weight)  # timm starts residual branches at zero, which stops gradients behind them
    for stage in (tiny.layer1, tiny.layer2, tiny.layer3, tiny.layer4):
        nn.init.ones_(stage[0].bn2.weight)
    optimizer = torch.optim.SGD(tiny.parameters(), lr=0.1)
    attribution = ALL[name]()
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            attribution(tiny, inputs, targets)
            loss = nn.functional.cross_entropy(tiny(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        before = [value.clone() for value in tiny.parameters()]
        optimizer.step()
        for (key, value), old in zip(tiny.named_parameters(), before, strict=True):
            assert value.grad is not None, key
            assert not torch.equal(value, old), key


@pytest.mark.parametrize(("precision", "correlation"), [(torch.bfloat16, 0.98), (torch.float16, 0.998)])
def test_half_precision_ranks_alike(precision: torch.dtype, correlation: float, batch: tuple) -> None:
    model = randomize(timm_model("resnet18")).float()
    inputs, targets = batch
    full = GradientLRP()(model, inputs, targets)
    with torch.autocast("cpu", dtype=precision):
        half = GradientLRP()(model, inputs, targets)
    assert half.dtype == torch.float32
    for a, b in zip(full, half, strict=True):
        # Only the scale of an image hangs on its target's logit, which may be close to zero.
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs() > correlation


def test_follows_the_weights_and_a_new_head(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    attribution = GradientLRP()
    attribution(tiny, inputs, targets)
    with torch.no_grad():
        for value in tiny.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    torch.testing.assert_close(attribution(tiny, inputs, targets), GradientLRP()(tiny, inputs, targets))
    tiny.fc = nn.Linear(128, 4)
    torch.testing.assert_close(attribution(tiny, inputs, targets % 4), GradientLRP()(tiny, inputs, targets % 4))


def test_the_relevance_of_an_image_does_not_depend_on_its_batch(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    together = relevance(tiny, inputs, targets)
    alone = torch.cat([relevance(tiny, x[None], y[None]) for x, y in zip(inputs, targets, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


def test_in_inference_mode(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    expected = GradientLRP()(tiny, inputs, targets)
    with torch.inference_mode():
        assert torch.equal(GradientLRP()(tiny, inputs.clone(), targets.clone()), expected)
        assert torch.is_inference_mode_enabled()
        check(tiny, inputs.clone())


def test_checkpointing_comes_back_when_two_threads_overlap() -> None:
    before = dict(vars(torch.utils.checkpoint))
    first, second = no_checkpointing(), no_checkpointing()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.utils.checkpoint.CheckpointFunction is not before["CheckpointFunction"]
    second.__exit__(None, None, None)
    assert vars(torch.utils.checkpoint) == before


class _Meeting(nn.Module):
    """Calls `met` in its second pass, in which the calls of the network are recorded."""

    def __init__(self, met: Callable[[], object]) -> None:
        super().__init__()
        self.met, self.passes = met, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes == 2:
            self.met()
        return x


def test_two_threads_record_at_the_same_time(batch: tuple) -> None:
    """The first waits in a layer until the second is in one of its own, which waits for the end of the first."""
    inputs, targets = batch
    inside, done, found = threading.Event(), threading.Event(), []

    def wait() -> None:
        inside.set()
        assert done.wait(60)

    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    body(inputs)
    other = nn.Sequential(_Meeting(wait), body)
    thread = threading.Thread(target=lambda: found.append(GradientLRP()(other, inputs, targets)))

    def start() -> None:
        thread.start()
        assert inside.wait(60)

    found.append(GradientLRP()(nn.Sequential(_Meeting(start), body), inputs, targets))
    done.set()
    thread.join()
    expected = GradientLRP()(body, inputs, targets)
    assert len(found) == 2
    assert all(torch.equal(each, expected) for each in found)

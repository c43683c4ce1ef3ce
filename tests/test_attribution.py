"""Attribution against zennit, closed forms and conservation; and that it leaves everything as it found it."""

import copy

import pytest
import torch
import torchvision
from conftest import randomise, timm_model
from torch import nn

from reldrop.attribution import Centre, GradientLRP, InputGradient, Random, ZennitLRP, relevance
from reldrop.attribution.rules import damped, rectified, stabilise, zplus
from reldrop.errors import ReldropError

ALL = {
    "gradient": GradientLRP,
    "zplus": lambda: GradientLRP(middle="zplus"),
    "zennit": ZennitLRP,
    "official": lambda: ZennitLRP(canonizer="torchvision"),
    "input_gradient": InputGradient,
    "random": Random,
}


def images(size: int = 32, count: int = 2, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=draws, dtype=dtype), torch.arange(count) + 1


# ---- equal to zennit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1e-3, 0.25])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnetblur50", "torchvision"])
def test_epsilon_equals_zennit(name: str, epsilon: float) -> None:
    if name == "torchvision":
        model = randomise(torchvision.models.resnet18(num_classes=10))
    else:
        model = randomise(timm_model(name))
    inputs, targets = images(40)
    expected = ZennitLRP("epsilon_flat", epsilon=epsilon)(model, inputs, targets)
    found = GradientLRP(epsilon=epsilon)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetblur50"])
def test_zplus_equals_zennit(name: str) -> None:
    model = randomise(timm_model(name))
    inputs, targets = images(40)
    expected = ZennitLRP("epsilon_plus_flat", epsilon=1e-3)(model, inputs, targets)
    found = GradientLRP(epsilon=1e-3, middle="zplus")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_epsilon_stem_equals_zennit_without_flat() -> None:
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    from reldrop.attribution.canonizer import ResidualCanonizer

    oracle = ZennitLRP()
    oracle.composite = LayerMapComposite([*layer_map_base(), ((Linear,), Epsilon(1e-2))], [ResidualCanonizer()])
    model = randomise(timm_model("resnet18"))
    inputs, targets = images()
    expected = oracle(model, inputs, targets)
    found = GradientLRP(epsilon=1e-2, stem="epsilon")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_drop_path_and_dropout_are_off() -> None:
    model = randomise(timm_model("resnet18", drop_path_rate=0.5, drop_rate=0.5))
    inputs, targets = images()
    plain = randomise(timm_model("resnet18"))
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        GradientLRP()(model, inputs, targets), GradientLRP()(plain, inputs, targets), rtol=1e-9, atol=1e-12
    )


def test_official_copies_relevance_at_residual_sums_and_so_explodes() -> None:
    model = randomise(timm_model("resnet18"), biases=False)
    inputs, targets = images()
    conserving = ZennitLRP(canonizer="timm", epsilon=0.0)(model, inputs, targets).sum((1, 2))
    official = ZennitLRP(canonizer="torchvision", epsilon=0.0)(model, inputs, targets).sum((1, 2))
    torch.testing.assert_close(conserving, torch.ones(2).double(), atol=1e-4, rtol=0)
    # Relevance is copied to both branches of each of the 8 blocks, and what both copies hold is added up again.
    assert (official.abs() > 50).all()


@pytest.mark.parametrize("name", ["seresnet18", "resnet18"])
def test_zennit_conserves_with_squeeze_and_excitation(name: str) -> None:
    model = randomise(timm_model(name), biases=False)
    inputs, targets = images(40)
    total = ZennitLRP(epsilon=0.0)(model, inputs, targets).sum((1, 2))
    torch.testing.assert_close(total, torch.ones(2).double(), atol=1e-3, rtol=0)


# ---- conservation and closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_conserves_without_biases(name: str) -> None:
    model = randomise(timm_model(name), biases=False)
    inputs, targets = images()
    total = GradientLRP(epsilon=0.0, stabiliser=0.0)(model, inputs, targets).sum((1, 2))
    assert (total - 1).abs().max() < 1e-6


def test_zplus_conserves_without_biases() -> None:
    model = randomise(timm_model("resnet18"), biases=False)
    inputs, targets = images()
    total = GradientLRP(epsilon=0.0, middle="zplus")(model, inputs, targets).sum((1, 2))
    assert (total - 1).abs().max() < 1e-3  # its stabiliser cannot be left out: z+ may be zero


def test_epsilon_zero_is_gradient_times_input() -> None:
    model = randomise(timm_model("resnet18")).eval()
    inputs, targets = images()
    x = inputs.clone().requires_grad_()
    logits = model(x).gather(1, targets[:, None])[:, 0]
    (grad,) = torch.autograd.grad(logits.sum(), x)
    expected = (grad * x).sum(1) / logits[:, None, None]
    found = GradientLRP(epsilon=0.0, stem="epsilon", stabiliser=0.0)(model, inputs, targets)
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
    torch.testing.assert_close(stabilise(z.detach(), 0.1)[2], torch.tensor(0.1).double())

    x, w, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 3), (2, 3), (2,)))
    r = torch.randn(4, 2, dtype=torch.float64)
    x.requires_grad_()
    z = zplus(x, w, b, torch.nn.functional.linear, nonnegative=False, epsilon=1e-6)
    (grad,) = torch.autograd.grad(z, x, r / z.detach())
    share = x.clamp(min=0)[:, None] * w.clamp(min=0) + x.clamp(max=0)[:, None] * w.clamp(max=0)  # (4, 2, 3)
    total = share.sum(-1) + b.clamp(min=0)
    expected = (share * (r / (total + 1e-6))[:, :, None]).sum(1)
    torch.testing.assert_close(grad * x, expected, rtol=1e-9, atol=1e-12)


# ---- leaves everything as found ----------------------------------------------------------------------------------------


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
    model = randomise(timm_model("resnet18")).float()
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


# ---- refusals ----------------------------------------------------------------------------------------------------------


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head((x * torch.sigmoid(x)).mean((2, 3)))


class _InPlace(nn.Module):
    """Reads a tensor after an in-place ReLU has changed it: the graph alone does not show that."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.act(x)
        return self.head((x + y).mean((2, 3)))


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x).mean((2, 3)) if x.sum() > 0 else self.stem(-x).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: timm_model("seresnet18"), "layer1.0.se.gate"),
        (lambda: timm_model("swin_tiny_patch4_window7_224"), "softmax (Softmax)"),
        (lambda: timm_model("resnet18", act_layer="silu"), "act1"),
        (lambda: timm_model("resnet18", norm_layer="groupnorm"), "bn1"),
        (_Gated, "sigmoid"),
        (_InPlace, "does not reproduce the output of _InPlace"),
        (_Branching, "_Branching cannot be traced"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), "not a single convolution"),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            "module 2 (BatchNorm2d)",
        ),
    ],
)
def test_refuses_what_it_cannot_treat_rightly(model: object, names: str) -> None:
    network = model()
    size = 224 if "Transformer" in type(network).__name__ else 32
    with pytest.raises(ReldropError) as error:
        GradientLRP().check(network, torch.randn(1, 3, size, size))
    assert names in str(error.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GradientLRP(epsilon=-1.0),
        lambda: GradientLRP(epsilon=float("nan")),
        lambda: GradientLRP(middle="gamma"),
        lambda: GradientLRP(stem="zbox"),
        lambda: ZennitLRP("no_such_composite"),
        lambda: ZennitLRP(canonizer="keras"),
        lambda: ZennitLRP("epsilon_gamma_box", options={"hight": 1}),
    ],
)
def test_wrong_settings(build: object) -> None:
    with pytest.raises(ReldropError):
        build()


def test_other_zennit_composites(tiny: nn.Module, batch: tuple) -> None:
    inputs, targets = batch
    for name, options in {"epsilon_gamma_box": {"low": -3.0, "high": 3.0}, "guided_backprop": {}}.items():
        found = ZennitLRP(name, options=options)(tiny, inputs, targets)
        assert found.isfinite().all()
        assert found.abs().sum() > 0


def test_random_draws_from_the_generator_it_is_given(tiny: nn.Module, batch: tuple) -> None:
    draws = [Random()(tiny, *batch, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
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


def test_the_centre_is_where_it_is(tiny: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps = Centre()(tiny, batch[0][..., :12], batch[1])  # 16 rows, 12 columns
    assert maps.shape == (6, 16, 12)
    assert torch.equal(maps, maps.flip(1))
    assert torch.equal(maps, maps.flip(2))
    assert maps[0, 7, 5] == maps.max()
    assert (maps[0, 7, :6].diff() > 0).all()
    torch.testing.assert_close(maps[0, 3, 0] / maps[0, 3, 5], maps[0, 7, 0] / maps[0, 7, 5])
    clouds = torch.randn(3, 50, 6, generator=torch.Generator().manual_seed(0))
    near = (clouds[..., :3] - clouds[..., :3].mean(1, keepdim=True)).norm(dim=-1)
    found = Centre()(tiny, clouds, batch[1][:3])
    assert torch.equal(found.argsort(descending=True), near.argsort())
    moved = clouds.clone()
    moved[..., :3] = 3 * moved[..., :3] + 5
    torch.testing.assert_close(Centre()(tiny, moved, batch[1][:3]), found)
    with pytest.raises(ReldropError, match="width=0 must be above 0"):
        Centre(width=0)

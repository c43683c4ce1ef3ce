"""Attribution."""

import copy

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, InputGradient, RandomRelevance, ReleaseLRP, ZennitLRP
from reldrop.backbones import point_network
from reldrop.backbones.point_layers import GroupedLinear, NormMax, PointNorm, SharedLayers
from reldrop.utils.errors import ReldropError
from reldrop.utils.point_ops import ball_query, farthest_points, gather_points
from tests.helpers.networks import randomize
from tests.helpers.point_networks import NETWORKS, clouds, make_plain, named, small


@pytest.mark.parametrize("stem", ["flat", "epsilon"])
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", NETWORKS)
def test_conserves_without_biases(name: str, channels: int, stem: str) -> None:
    model = named(name, channels, biases=False)
    found = GradientLRP(epsilon=0.0, input_rule=stem, stabilizer=0.0)(model, clouds(channels=channels), torch.arange(3))
    assert found.shape == (3, 80)
    assert (found.sum(1) - 1).abs().max() < 1e-6


def test_epsilon_zero_is_gradient_times_input() -> None:
    model = small().eval()
    inputs, targets = clouds(), torch.arange(3)
    x = inputs.clone().requires_grad_()
    logits = model(x).gather(1, targets[:, None])
    (grad,) = torch.autograd.grad(logits.sum(), x)
    expected = (grad * x).sum(-1) / logits
    found = GradientLRP(epsilon=0.0, input_rule="epsilon", stabilizer=0.0)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


class _SharedStack(nn.Module):
    """A shared MLP, the maximum over points, and a classifier: nothing happens between its modules but the maximum."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.shared = SharedLayers(channels, 16, 24)
        self.last = nn.Linear(24, 32)
        self.pool = NormMax(32)
        self.head = nn.Sequential(nn.Linear(32, 16), PointNorm(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.pool(self.last(self.shared(points))))


def epsilon_everywhere(epsilon: float) -> ZennitLRP:
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    from reldrop.attribution.canonizer import ResidualCanonizer

    oracle = ZennitLRP()
    oracle.composite = LayerMapComposite([*layer_map_base(), ((Linear,), Epsilon(epsilon))], [ResidualCanonizer()])
    return oracle


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 0.25])
def test_equals_zennit_on_a_shared_stack(epsilon: float) -> None:
    torch.manual_seed(0)
    model = randomize(_SharedStack())
    inputs, targets = clouds(), torch.arange(3)
    expected = epsilon_everywhere(epsilon)(model, inputs, targets)
    found = GradientLRP(epsilon=epsilon, input_rule="epsilon")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


class _Neighbourhoods(nn.Module):
    """One layer on the neighborhoods of two centroids, the maximum, and a classifier: small enough for a pencil."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GroupedLinear(3, 4)
        self.pool = NormMax(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, points: Tensor) -> Tensor:
        xyz = points[..., :3]
        centroids = gather_points(xyz, farthest_points(xyz, 2))
        return self.head(self.pool(self.first(points, centroids, *ball_query(xyz, centroids, [0.7], [5])))).mean(1)


def test_zennit_does_not_conserve_where_positions_are_subtracted() -> None:
    """Its hooks see modules only; between them, the relevance of a difference x - c goes to x with its sign and to c
    with the opposite one, as if it were a gradient: all of it cancels. PointNet++ is made of such differences.
    """
    torch.manual_seed(0)
    model = _Neighbourhoods().double()
    nn.init.zeros_(model.first.linear.bias)
    inputs, targets = clouds(channels=3), torch.arange(3)
    ours = GradientLRP(epsilon=0.0, input_rule="epsilon", stabilizer=0.0)(model, inputs, targets)
    hooked = epsilon_everywhere(1e-9)(model, inputs, targets)
    assert (ours.sum(1) - 1).abs().max() < 1e-6
    assert hooked.sum(1).abs().max() < 1e-6
    assert hooked.abs().sum(1).min() > 0.1


@pytest.mark.parametrize("name", ["pointnet2_ssg", "pointnet2_msg"])
def test_official_is_the_composite_of_named_layers(name: str) -> None:
    """The release's rules, attached to every layer by its name, and its relevance behind the log-softmax."""
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.composites import NameMapComposite
    from zennit.rules import Epsilon, Flat, Pass

    model = named(name)
    inputs, targets = clouds(2), torch.tensor([1, 2])
    linears, rules, merged, last = [], [], [], None
    for key, module in model.named_modules():
        if isinstance(module, nn.Linear):
            rules.append(([key], Epsilon() if linears else Flat()))
            linears.append(key)
            last = key
        elif isinstance(module, PointNorm):
            rules.append(([key], Pass()))
            merged.append(([last], key))
        elif isinstance(module, nn.Dropout):
            rules.append(([key], Pass()))
    assert linears[0] == "sa1.scales.0.first.linear"
    twin = make_plain(model).eval().requires_grad_(False)
    composite = NameMapComposite(name_map=rules, canonizers=[NamedMergeBatchNorm(merged)])
    x = inputs.clone().requires_grad_()
    with composite.context(twin) as network:
        scores = network(x).log_softmax(1)
        (expected,) = torch.autograd.grad(scores, x, torch.eye(10, dtype=x.dtype)[targets])
    found = ReleaseLRP()(model, inputs, targets)
    torch.testing.assert_close(found, expected.sum(-1), rtol=1e-9, atol=1e-12 * float(expected.abs().max()))
    assert found.abs().sum() > 0


def test_a_point_nobody_looks_at_has_no_relevance() -> None:
    """A point outside of all balls, and no centroid itself, cannot change the answer, and gets nothing."""
    model = small(channels=3)
    inputs = clouds(channels=3)
    xyz = inputs.clone()
    centroids = gather_points(xyz, farthest_points(xyz, 24))
    seen = torch.zeros(3, 80)
    for radius, count in ((0.3, 8), (0.6, 16)):
        seen.scatter_(1, ball_query(xyz, centroids, [radius], [count])[0].flatten(1), 1.0)
    seen.scatter_(1, farthest_points(xyz, 24), 1.0)
    assert (seen == 0).any()
    for stem in ("flat", "epsilon"):
        found = GradientLRP(input_rule=stem)(model, inputs, torch.arange(3))
        assert (found[seen == 0] == 0).all()


def test_flat_gives_a_stem_output_to_its_point() -> None:
    torch.manual_seed(0)
    model = _Neighbourhoods().double().eval()
    inputs = clouds(1, 12, 3)
    z = model.first(inputs, *_centroids(inputs))
    a, winner = z.relu().div(torch.sqrt(torch.tensor(1.0) + 1e-5)).max(2)
    logit = model.head(a).mean(1)[0, 1]
    expected = torch.zeros(12, dtype=torch.float64)
    index = _centroids(inputs)[1]
    for s in range(2):
        for c in range(4):
            expected[index[0, s, winner[0, s, c]]] += (a[0, s, c] * model.head.weight[1, c] / 2 / logit).detach()
    found = GradientLRP(epsilon=0.0, stabilizer=0.0)(model, inputs, torch.tensor([1]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def _centroids(points: Tensor) -> tuple[Tensor, Tensor]:
    centroids = gather_points(points, farthest_points(points, 2))
    return centroids, *ball_query(points, centroids, [0.7], [5])


ATTRIBUTIONS = {
    "gradient": GradientLRP,
    "zennit": ZennitLRP,
    "official": ReleaseLRP,
    "input_gradient": InputGradient,
    "random": RandomRelevance,
}


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_leaves_all_as_found(attribution: str, name: str, precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    model = point_network(name, num_classes=10, channels=6).train()
    model.head[1].eval()  # mixed flags have to survive as well
    inputs, targets = clouds(3, 50, 6, torch.float32), torch.arange(3)
    model(inputs).sum().backward()
    state = copy.deepcopy(model.state_dict())
    grads = [value.grad.clone() for value in model.parameters()]
    flags = {key: module.training for key, module in model.named_modules()}
    random_state = torch.get_rng_state()
    before = inputs.clone()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        found = ATTRIBUTIONS[attribution]()(model, inputs, targets)
    assert found.shape == (3, 50)
    assert found.isfinite().all()
    assert not found.requires_grad
    assert torch.equal(before, inputs)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(value.grad, grad) for value, grad in zip(model.parameters(), grads, strict=True))
    assert {key: module.training for key, module in model.named_modules()} == flags
    assert torch.equal(torch.get_rng_state(), random_state)


def test_half_precision_ranks_alike() -> None:
    model = small().float()
    inputs, targets = clouds(dtype=torch.float32), torch.arange(3)
    full = GradientLRP()(model, inputs, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = GradientLRP()(model, inputs, targets)
        assert model(inputs).dtype == torch.bfloat16
    for a, b in zip(full, half, strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() > 0.8


def test_the_relevance_of_a_cloud_does_not_depend_on_its_batch() -> None:
    model, inputs, targets = small(), clouds(), torch.arange(3)
    together = GradientLRP()(model, inputs, targets)
    alone = torch.cat([GradientLRP()(model, x[None], y[None]) for x, y in zip(inputs, targets, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


class _Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(80 * 6, 10))

    def forward(self, points: Tensor) -> Tensor:
        return self.head(points)


def test_refusals() -> None:
    with pytest.raises(ReldropError, match="conv_rule=epsilon"):
        GradientLRP(conv_rule="zplus")(small(), clouds(1), torch.tensor([0]))
    with pytest.raises(ReldropError, match=r"input_rule=epsilon"):
        GradientLRP()(_Flattened().double(), clouds(1), torch.tensor([0]))
    with pytest.raises(ReldropError, match=r"output='.*' must be 'logits' or 'log_softmax'"):
        ZennitLRP(output="softmax")

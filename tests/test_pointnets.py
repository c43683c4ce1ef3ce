"""Geometry against plain loops, the networks on point clouds, and what relevance does in them."""

import copy
from itertools import pairwise

import pytest
import torch
from conftest import randomise
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, InputGradient, Official, Random, ZennitLRP
from reldrop.augmentation import RandomPointDropout, RelDrop, RelDropPoint
from reldrop.backbones import point_network
from reldrop.backbones.point_layers import GroupedLinear, NormMax, PointNorm, SharedLayers
from reldrop.backbones.pointnet import not_orthogonal
from reldrop.backbones.pointnet2 import PointNet2
from reldrop.errors import ReldropError
from reldrop.geometry import ball_query, farthest_points, gather_points

NETWORKS = ["pointnet", "pointnet2_ssg", "pointnet2_msg"]
# Small enough for tests; two scales, as MSG has three.
SMALL = ((24, ((0.3, 8, (8, 8, 16)), (0.6, 16, (8, 8, 16)))), (8, ((0.8, 8, (16, 16, 32)),)))


def clouds(count: int = 3, size: int = 80, channels: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(count, size, channels, generator=draws, dtype=torch.float64)
    points[..., :3] *= torch.rand(count, size, 1, generator=draws) / points[..., :3].norm(dim=-1, keepdim=True)
    return points.to(dtype)


def small(channels: int = 6, biases: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return randomise(PointNet2(10, channels, SMALL, (0.4, 0.4)), biases=biases)


def named(name: str, channels: int = 6, biases: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return randomise(point_network(name, num_classes=10, channels=channels), biases=biases)


# ---- geometry against plain loops -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(50, 20), (50, 1), (7, 7), (7, 12)])
def test_farthest_points_equal_a_loop(size: int, count: int) -> None:
    xyz = clouds(size=size)[..., :3]
    for cloud, found in zip(xyz, farthest_points(xyz, count), strict=True):
        chosen = [0]
        while len(chosen) < min(count, size):
            nearest = [min((p - cloud[c]).square().sum() for c in chosen) for p in cloud]
            chosen.append(max(range(size), key=lambda i: nearest[i]))
        assert found.tolist() == chosen


def test_a_sampling_is_its_own_sampling() -> None:
    xyz = clouds()[..., :3]
    sampled = gather_points(xyz, farthest_points(xyz, 40))
    assert farthest_points(sampled, 15).tolist() == [list(range(15))] * len(xyz)


@pytest.mark.parametrize(("radius", "count"), [(0.2, 4), (0.5, 16), (1.5, 100)])
def test_ball_query_equals_a_loop(radius: float, count: int) -> None:
    xyz = clouds()[..., :3]
    centroids = gather_points(xyz, farthest_points(xyz, 12))
    found = ball_query(xyz, centroids, radius, count)
    assert found.shape == (3, 12, count)
    for b in range(3):
        for s in range(12):
            inside = [i for i in range(80) if (xyz[b, i] - centroids[b, s]).norm() <= radius][:count]
            assert found[b, s].tolist() == inside + [inside[0]] * (count - len(inside))


def test_an_empty_ball_names_a_point_all_the_same() -> None:
    assert ball_query(torch.zeros(1, 4, 3), torch.ones(1, 1, 3), 0.1, 2).tolist() == [[[3, 3]]]


def test_gather_equals_indexing() -> None:
    values = clouds().requires_grad_()
    index = torch.randint(80, (3, 5, 7))
    found = gather_points(values, index)
    expected = torch.stack([cloud[i] for cloud, i in zip(values, index, strict=True)])
    assert torch.equal(found, expected)
    weights = torch.randn_like(found)
    (a,) = torch.autograd.grad((found * weights).sum(), values)
    (b,) = torch.autograd.grad((expected * weights).sum(), values)
    torch.testing.assert_close(a, b)


# ---- layers and networks --------------------------------------------------------------------------------------------


def make_plain(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "plain"):
            module.plain = True
    return twin


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


# ---- attribution ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["flat", "epsilon"])
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", NETWORKS)
def test_conserves_without_biases(name: str, channels: int, stem: str) -> None:
    model = named(name, channels, biases=False)
    found = GradientLRP(epsilon=0.0, stem=stem, stabiliser=0.0)(model, clouds(channels=channels), torch.arange(3))
    assert found.shape == (3, 80)
    assert (found.sum(1) - 1).abs().max() < 1e-6


def test_epsilon_zero_is_gradient_times_input() -> None:
    model = small().eval()
    inputs, targets = clouds(), torch.arange(3)
    x = inputs.clone().requires_grad_()
    logits = model(x).gather(1, targets[:, None])
    (grad,) = torch.autograd.grad(logits.sum(), x)
    expected = (grad * x).sum(-1) / logits
    found = GradientLRP(epsilon=0.0, stem="epsilon", stabiliser=0.0)(model, inputs, targets)
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
    model = randomise(_SharedStack())
    inputs, targets = clouds(), torch.arange(3)
    expected = epsilon_everywhere(epsilon)(model, inputs, targets)
    found = GradientLRP(epsilon=epsilon, stem="epsilon")(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


class _Neighbourhoods(nn.Module):
    """One layer on the neighbourhoods of two centroids, the maximum, and a classifier: small enough for a pencil."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GroupedLinear(3, 4)
        self.pool = NormMax(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, points: Tensor) -> Tensor:
        xyz = points[..., :3]
        centroids = gather_points(xyz, farthest_points(xyz, 2))
        return self.head(self.pool(self.first(points, centroids, ball_query(xyz, centroids, 0.7, 5)))).mean(1)


def test_zennit_does_not_conserve_where_positions_are_subtracted() -> None:
    """Its hooks see modules only; between them, the relevance of a difference x - c goes to x with its sign and to c
    with the opposite one, as if it were a gradient: all of it cancels. PointNet++ is made of such differences.
    """
    torch.manual_seed(0)
    model = _Neighbourhoods().double()
    nn.init.zeros_(model.first.linear.bias)
    inputs, targets = clouds(channels=3), torch.arange(3)
    ours = GradientLRP(epsilon=0.0, stem="epsilon", stabiliser=0.0)(model, inputs, targets)
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
    found = Official()(model, inputs, targets)
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
        seen.scatter_(1, ball_query(xyz, centroids, radius, count).flatten(1), 1.0)
    seen.scatter_(1, farthest_points(xyz, 24), 1.0)
    assert (seen == 0).any()
    for stem in ("flat", "epsilon"):
        found = GradientLRP(stem=stem)(model, inputs, torch.arange(3))
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
    found = GradientLRP(epsilon=0.0, stabiliser=0.0)(model, inputs, torch.tensor([1]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def _centroids(points: Tensor) -> tuple[Tensor, Tensor]:
    centroids = gather_points(points, farthest_points(points, 2))
    return centroids, ball_query(points, centroids, 0.7, 5)


ATTRIBUTIONS = {
    "gradient": GradientLRP,
    "zennit": ZennitLRP,
    "official": Official,
    "input_gradient": InputGradient,
    "random": Random,
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
    with pytest.raises(ReldropError, match="middle=epsilon"):
        GradientLRP(middle="zplus").check(small(), clouds(1))
    with pytest.raises(ReldropError, match=r"_Flattened is not a single convolution"):
        GradientLRP().check(_Flattened().double(), clouds(1))
    with pytest.raises(ReldropError, match=r"output='.*' must be 'logits' or 'log_softmax'"):
        ZennitLRP(output="softmax")


# ---- augmentation ---------------------------------------------------------------------------------------------------


def by_height(inputs: Tensor, targets: Tensor) -> Tensor:
    return inputs[..., 2]


def test_reldrop_point_equals_a_loop() -> None:
    inputs, targets = clouds(dtype=torch.float32), torch.arange(3)
    occlude = RelDropPoint(alpha=0.5, beta=0.4)
    found = occlude(inputs, targets, by_height, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    torch.rand(3, generator=draws)  # the coins
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
    noise = torch.rand(3, 80, generator=own)
    dropped = 0
    for b in range(3):
        heights = inputs[b, :, 2]
        for i in range(80):
            scaled = (heights[i] - heights.min()) / (heights.max() - heights.min())
            drop = bool(0.5 * noise[b, i] + 0.5 * scaled >= 0.6)
            dropped += drop
            assert torch.equal(found[b, i], torch.zeros(6) if drop else inputs[b, i])
    assert 10 < dropped < 200


def test_random_point_dropout_equals_a_loop() -> None:
    inputs, targets = clouds(4, dtype=torch.float32), torch.arange(4)
    found = RandomPointDropout(max_ratio=0.8)(inputs, targets, None, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    torch.rand(4, generator=draws)  # the coins
    ratio, noise = 0.8 * torch.rand(4, 1, generator=draws), torch.rand(4, 80, generator=draws)
    for b in range(4):
        for i in range(80):
            assert torch.equal(found[b, i], inputs[b, 0] if noise[b, i] <= ratio[b] else inputs[b, i])


def test_the_law_of_random_point_dropout() -> None:
    inputs = clouds(2000, 100, 3, torch.float32)
    mask = RandomPointDropout().mask(inputs, torch.zeros(2000), None, torch.Generator().manual_seed(0))
    share = mask.double().mean(1)
    assert abs(share.mean() - 0.875 / 2) < 0.02
    assert share.max() > 0.8
    assert share.min() < 0.05


def test_only_chosen_clouds_are_attributed() -> None:
    inputs, targets = clouds(40), torch.arange(40)
    seen: list[int] = []

    def relevance(points: Tensor, classes: Tensor) -> Tensor:
        seen.extend(classes.tolist())
        return points[..., 0]

    mask = RelDropPoint(probability=0.5).mask(inputs, targets, relevance, torch.Generator().manual_seed(0))
    assert 10 < len(seen) < 30
    assert mask.any(1).nonzero()[:, 0].tolist() == seen


def test_reldrop_in_a_loop_of_ones_own() -> None:
    model = small().float()
    reldrop = RelDrop(model, "point", beta=0.6)
    inputs = clouds(dtype=torch.float32)
    occluded = reldrop(inputs, torch.arange(3))
    assert 0 < (occluded != inputs).any(-1).double().mean() < 1


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: RelDropPoint(alpha=1.5), "alpha=1.5 must be at most 1"),
        (lambda: RelDropPoint(beta=-1), "beta=-1 must be at least 0"),
        (lambda: RandomPointDropout(max_ratio=2), "max_ratio=2 must be at most 1"),
        (lambda: RandomPointDropout(fill="last"), "fill='last' must be 'mean', 'noise' or 'first'"),
    ],
)
def test_wrong_settings(build: object, names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        build()

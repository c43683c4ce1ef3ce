"""The rules written out, relevance by relevance."""

import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, ZennitLRP
from reldrop.attribution.forms import activated, layer_norm
from tests.helpers.transformers import images, small

# ---- the rules written out, relevance by relevance ------------------------------------------------------------------


def stabilized(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z < 0, z - epsilon, z + epsilon)


def linear_rule(x: Tensor, layer: nn.Linear, relevance: Tensor, epsilon: float) -> Tensor:
    z = stabilized(x @ layer.weight.T + layer.bias, epsilon)
    return x * ((relevance / z) @ layer.weight)


def norm_rule(x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> Tensor:
    """Epsilon rule (eps = 0) of the linear map x -> (x - mean) w / s + b with a constant s."""
    deviation = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    z = (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias
    share = relevance / z * norm.weight / deviation
    return x * (share - share.mean(-1, keepdim=True))


def sum_rule(parts: tuple[Tensor, Tensor], relevance: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    share = relevance / stabilized(parts[0] + parts[1], epsilon)
    return parts[0] * share, parts[1] * share


def attention_rule(q: Tensor, k: Tensor, v: Tensor, relevance: Tensor, cp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """AttnLRP: half of each product's relevance to each factor, and the softmax by its Taylor expansion."""
    scale = q.shape[-1] ** -0.5
    logits = q @ k.mT * scale
    weights = logits.softmax(-1)
    share = relevance / (weights @ v)
    if cp:
        return torch.zeros_like(q), torch.zeros_like(k), v * (weights.mT @ share)
    to_values = v * (weights.mT @ share) / 2
    to_weights = weights * (share @ v.mT) / 2
    to_logits = logits * (to_weights - weights * to_weights.sum(-1, keepdim=True))
    share = to_logits / logits
    return q * (share @ k) * scale / 2, k * (share.mT @ q) * scale / 2, to_values


def written_out(model: VisionTransformer, x: Tensor, targets: Tensor, epsilon: float, sums: float, cp: bool) -> Tensor:
    """Relevance (B, H, W) of a ViT with class token: a forward pass that keeps everything, and the rules backwards."""
    heads = model.blocks[0].attn.num_heads

    def split(value: Tensor) -> Tensor:
        return value.unflatten(-1, (heads, -1)).transpose(1, 2)

    def joined(value: Tensor) -> Tensor:
        return value.transpose(1, 2).flatten(2)

    patches = model.patch_embed.proj(x).flatten(2).mT
    tokens = torch.cat([model.cls_token.expand(len(x), -1, -1), patches], 1)
    stream = tokens + model.pos_embed
    kept = []
    for block in model.blocks:
        normed = block.norm1(stream)
        q, k, v = map(split, block.attn.qkv(normed).chunk(3, -1))
        mixed = joined((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v)
        attended = block.attn.proj(mixed)
        middle = stream + attended
        second = block.norm2(middle)
        hidden = block.mlp.fc1(second)
        active = nn.functional.gelu(hidden)
        out = block.mlp.fc2(active)
        kept.append((stream, normed, q, k, v, mixed, attended, middle, second, hidden, active, out))
        stream = middle + out
    final = model.norm(stream)
    logits = model.head(final[:, 0])
    target = logits.gather(1, targets[:, None])[:, 0]
    top = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
    share = top * (1 / stabilized(target, epsilon))[:, None]
    relevance = torch.zeros_like(final)
    relevance[:, 0] = final[:, 0] * (share @ model.head.weight)
    relevance = norm_rule(stream, model.norm, relevance)
    for block, values in zip(reversed(model.blocks), reversed(kept), strict=True):
        stream, normed, q, k, v, mixed, attended, middle, second, hidden, active, out = values
        to_middle, to_out = sum_rule((middle, out), relevance, sums)
        to_hidden = linear_rule(active, block.mlp.fc2, to_out, epsilon)  # GELU hands it on as it is
        to_middle = to_middle + norm_rule(middle, block.norm2, linear_rule(second, block.mlp.fc1, to_hidden, epsilon))
        to_stream, to_attended = sum_rule((stream, attended), to_middle, sums)
        to_mixed = linear_rule(mixed, block.attn.proj, to_attended, epsilon)
        parts = attention_rule(q, k, v, split(to_mixed), cp)
        to_qkv = torch.cat([joined(part) for part in parts], -1)
        relevance = to_stream + norm_rule(stream, block.norm1, linear_rule(normed, block.attn.qkv, to_qkv, epsilon))
    relevance, _ = sum_rule((tokens, model.pos_embed.expand_as(tokens)), relevance, sums)
    patch = model.patch_embed.proj.kernel_size[0]
    each = relevance[:, 1:].sum(-1) * 3 / (3 * patch**2 + sums)  # Flat: evenly over the pixels of a patch
    side = x.shape[-1] // patch
    return each.view(-1, side, side).repeat_interleave(patch, 1).repeat_interleave(patch, 2)


@pytest.mark.parametrize("attention", ["attnlrp", "cplrp"])
@pytest.mark.parametrize(("epsilon", "sums"), [(0.0, 0.0), (1e-3, 1e-6), (0.25, 0.1)])
def test_equals_the_rules_written_out(attention: str, epsilon: float, sums: float) -> None:
    model = small()
    inputs, targets = images()
    with torch.no_grad():
        expected = written_out(model, inputs, targets, epsilon, sums, attention == "cplrp")
    found = GradientLRP(epsilon=epsilon, stabilizer=sums, attention=attention)(model, inputs, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_single_rules() -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(6).double()
    nn.init.normal_(norm.weight)
    x, upstream = torch.randn(4, 6).double().requires_grad_(), torch.randn(4, 6).double()
    y = layer_norm(x, norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps)
    torch.testing.assert_close(y, norm(x))
    (grad,) = torch.autograd.grad(y, x, upstream)
    deviation = (x.detach().var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    centered = ((x - x.mean(-1, keepdim=True)) / deviation * norm.weight).mul(upstream).sum()
    torch.testing.assert_close(grad, torch.autograd.grad(centered, x)[0])
    x = torch.tensor([-1.0, 0.0, 2.0]).double().requires_grad_()
    for approximate in ("none", "tanh"):
        y = activated(x, nn.functional.gelu(x.detach(), approximate=approximate))
        (grad,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close((grad * x).detach(), y.detach())
        assert grad[1] == 0  # nothing flows through a zero, which has no relevance


# ---- conservation ---------------------------------------------------------------------------------------------------

VARIANTS = {
    "class token": {},
    "average": {"global_pool": "avg", "class_token": False},
    "attention pooling": {"global_pool": "map", "class_token": False},
    "layer scale": {"init_values": 0.1},
    "normalized queries and keys": {"qk_norm": True},
    "registers, no embedding of the class": {"reg_tokens": 2, "no_embed_class": True, "pre_norm": True},
}


@pytest.mark.parametrize("stem", ["flat", "epsilon"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cplrp_conserves_without_biases(variant: str, stem: str) -> None:
    model = small(biases=False, **VARIANTS[variant])
    inputs, targets = images()
    attribution = GradientLRP(epsilon=0.0, stabilizer=0.0, input_rule=stem, attention="cplrp")
    found = attribution(model, inputs, targets)
    assert found.shape == (3, 16, 16)
    assert (found.sum((1, 2)) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_attnlrp_runs_on_every_variant(variant: str) -> None:
    found = GradientLRP()(small(**VARIANTS[variant]), *images())
    assert found.isfinite().all()
    assert found.abs().sum() > 0


def test_attnlrp_loses_what_the_softmax_absorbs() -> None:
    """Without queries and keys, the half of each attention's relevance that is due to them has nowhere to go."""
    model = small(biases=False)
    for block in model.blocks:
        block.attn.qkv.weight.data[: 2 * 24] = 0  # queries and keys: all attention weights are alike
    inputs, targets = images()
    cp = GradientLRP(epsilon=0.0, stabilizer=0.0, attention="cplrp")(model, inputs, targets).sum((1, 2))
    attn = GradientLRP(epsilon=0.0, stabilizer=0.0)(model, inputs, targets).sum((1, 2))
    assert (cp - 1).abs().max() < 1e-6
    assert (attn - 1).abs().min() > 1e-3


def test_zennit_is_no_oracle_here() -> None:
    """Its hooks have no rule for what makes a transformer; relevance is far from conserved, or not a number."""
    inputs, targets = images()
    total = ZennitLRP()(small(biases=False), inputs, targets).sum((1, 2))
    assert not ((total - 1).abs() < 0.1).any()


# ---- as it is used --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_leaves_all_as_found(precision: torch.dtype | None) -> None:
    model = small(drop_rate=0.1, drop_path_rate=0.1, proj_drop_rate=0.1, patch_drop_rate=0.25).float().train()
    inputs, targets = images()
    inputs = inputs.float()
    model(inputs).sum().backward()
    state = copy.deepcopy(model.state_dict())
    grads = [None if value.grad is None else value.grad.clone() for value in model.parameters()]
    random_state = torch.get_rng_state()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        found = GradientLRP()(model, inputs, targets)
    full = GradientLRP()(model, inputs, targets)
    assert found.dtype == torch.float32
    for a, b in zip(found, full, strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > (0.95 if precision else 0.999)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for value, grad in zip(model.parameters(), grads, strict=True):
        assert (value.grad is None) == (grad is None)
        assert grad is None or torch.equal(value.grad, grad)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_follows_the_weights() -> None:
    model, (inputs, targets) = small(), images()
    attribution = GradientLRP()
    attribution(model, inputs, targets)
    with torch.no_grad():
        model.cls_token.add_(1.0)
        model.blocks[0].mlp.fc1.weight.mul_(1.5)
    torch.testing.assert_close(attribution(model, inputs, targets), GradientLRP()(model, inputs, targets))

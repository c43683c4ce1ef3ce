"""Which rule goes with which function of torch, by its name; an in-place form goes by the name of its plain one.

A rule is called in place of the function, as rule(forward, function, *args, **kwargs), and returns what the function
returns, with a gradient that is its rule: see `reldrop.attribution.forms`. `forward` is the `Forward` under way, which
says what carries relevance. Register a rule of your own with `register`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.attribution import forms
from reldrop.attribution.arguments import detached, mapped
from reldrop.utils.errors import ReldropError

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {}


def register(function: Callable[..., Any] | str, rule: Rule) -> None:
    """Give a function of torch a rule, or another one than it has.

    Args:
        function: of torch, a method of tensors, a function wrapped by `reldrop.utils.overrides.overridable`, or a name.
        rule: `as_is`, `given`, `activation`, `product`, `quotient`, `add`, `join`, or one of your own.
    """
    RULES[function if isinstance(function, str) else function.__name__] = rule


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Linear in what they read, by weights of their own. Those of ours are in reldrop.utils.point_ops and reldrop.backbones.
LINEAR = names(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear grouped_linear",
)
# Of what they read, each value once, or again, or not: in other shapes, places or types.
MOVES = names(
    """flatten unflatten ravel reshape view view_as reshape_as permute transpose swapaxes swapdims movedim moveaxis mT T H
    t unbind chunk split split_with_sizes tensor_split hsplit vsplit __getitem__ narrow select index_select gather
    take_along_dim squeeze unsqueeze expand expand_as broadcast_to repeat repeat_interleave tile contiguous clone roll flip
    fliplr rot90 unfold pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle dropout dropout1d dropout2d
    dropout3d feature_dropout alpha_dropout type_as to type float double half bfloat16 cpu cuda real imag view_as_real
    view_as_complex diagonal tril triu masked_select pad _pad gather_points"""
)
SHAPED_AS = names("view_as reshape_as expand_as type_as")  # their second argument is a shape or a type only
# Sums with constant weights.
AVERAGES = names(
    """mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate
    upsample upsample_bilinear2d upsample_nearest2d grid_sample cumsum fold"""
)
# A choice among what they read, or another constant multiple of each value.
CHOICES = names(
    """leaky_relu prelu rrelu abs threshold max_pool1d max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool1d
    adaptive_max_pool2d amax amin max min maximum minimum sort topk kthvalue neg __neg__ negative conj fft_fft fft_ifft
    fft_fft2 fft_ifft2 fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_fftn fft_ifftn"""
)
ADDS = names("add __add__ __radd__ sub subtract rsub __sub__ __rsub__")
JOINS = names(
    """cat concat concatenate stack hstack vstack dstack where masked_fill index_add index_copy index_put scatter
    scatter_add __setitem__ copy_ masked_scatter"""
)
ACTIVATIONS = names(
    """gelu silu hardswish mish elu celu selu relu6 hardtanh tanh softsign clamp clip clamp_min clamp_max tanhshrink
    hardshrink softshrink sin erf pow __pow__ square"""
)
# Gates, norms, decisions: constants, through which no relevance passes.
GIVEN = names(
    """sigmoid hardsigmoid softplus logsigmoid norm vector_norm linalg_norm linalg_vector_norm var std var_mean std_mean
    rsqrt sqrt reciprocal __rtruediv__ __rpow__ exp cos log log1p logsumexp detach data sign sgn round floor ceil
    predicted_matrix ball_query farthest_points"""
)
PRODUCTS = names(
    "matmul __matmul__ __rmatmul__ mm mv bmm dot inner outer einsum mul multiply __mul__ __rmul__ linalg_vecdot"
)
QUOTIENTS = names("div divide true_divide __truediv__")

# Not about values: they pass no relevance, and may be asked at any time.
QUESTIONS = names(
    """rand_like randn_like size dim ndimension numel nelement ndim shape stride is_contiguous is_floating_point
    is_complex __len__ item tolist new_zeros new_ones new_empty new_full new_tensor zeros_like ones_like empty_like
    full_like __set__ __bool__ __hash__ dtype device requires_grad grad_fn is_leaf layout is_cuda is_cpu is_mps is_sparse
    is_nested is_quantized is_meta names grad get_device"""
)
RANDOM = names(
    "rand randn rand_like randn_like bernoulli randperm randint uniform_ normal_ multinomial normal cauchy_ exponential_"
)


def as_is(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """Linear in what it reads, or a choice among it: gradient times value conserves (LRP-0; winner takes all)."""
    return function(*args, **kwargs)


def given(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """A constant, through which no relevance passes: gates (Arras et al. 2017), norms (Ali et al. 2022)."""
    with torch.no_grad():
        return forward.computed(function(*args, **kwargs))


def activation(forward: Any, function: Rule, x: Any, *args: Any, **kwargs: Any) -> Any:
    """y = x (y / x), the factor taken as given (Achtibat et al. 2024, the identity rule)."""
    if not forward.carries(x):  # 2 ** x
        return given(forward, function, x, *args, **kwargs)
    with torch.no_grad():
        y = function(x, *args, **kwargs)
    return forms.activated(x, y, forward.call.epsilon)


def product(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """An equal share to each factor that carries relevance (Achtibat et al. 2024, the uniform rule)."""
    return function(*forward.shared(args), **kwargs)


def quotient(forward: Any, function: Rule, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The divisor is taken as given, as in layer norms written out; a rounded quotient as a whole."""
    if kwargs.get("rounding_mode"):
        return given(forward, function, x, *args, **kwargs)
    return function(x, *detached(args), **detached(kwargs))


def add(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """Each summand keeps its share: residual connections, biases, embeddings of positions."""
    kwargs = {key: value if key == "alpha" else forward.given(value) for key, value in kwargs.items()}
    out = function(*(forward.given(value) for value in args), **kwargs)
    return forms.damped(out, forward.call.epsilon)


def join(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """Values side by side; what carries none, such as a class token, keeps what reaches it."""
    return function(*(value if type(value) is int else mapped(value, forward.given) for value in args), **kwargs)


def average(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """A sum with constant weights."""
    return forms.damped(function(*args, **kwargs), forward.call.epsilon)


def linear(
    forward: Any, function: Rule, input: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """Epsilon, ZPlus or Gamma (Bach et al. 2015, Montavon et al. 2019), with the batch norm behind it folded in."""
    call, settings = forward.call, forward.settings
    if forward.carries(weight):  # weights made from the input
        input, weight = forward.shared((input, weight))
    else:
        weight, bias = forward.folded(weight, bias)

    def compute(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return function(x, weight, bias, *args, **kwargs)

    if call.conv_rule and settings.conv_rule == "zplus":
        out = forms.zplus(compute, input, weight, bias, settings.stabilizer)
    elif call.conv_rule:
        out = forms.gamma(compute, input, weight, bias, settings.stabilizer, settings.gamma)
    else:
        out = compute(input, weight, forward.given(bias))
    forward.await_norm(out)
    return forms.damped(out, call.epsilon)


def batch_norm(forward: Any, function: Rule, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """A fixed affine map of each channel, folded into the linear map before it where that can be."""
    native = function is not F.batch_norm  # torch.batch_norm has another order of arguments
    order = "weight bias mean variance" if native else "mean variance weight bias"
    options = dict(zip((*order.split(), "training", "momentum", "eps"), args, strict=False))
    options |= {{"running_mean": "mean", "running_var": "variance"}.get(key, key): kwargs[key] for key in kwargs}
    if options.get("training") or options.get("mean") is None:
        raise ReldropError("batch_norm with the statistics of the batch has no rule")
    norm = *(detached(options.get(key)) for key in ("mean", "variance", "weight", "bias")), options.get("eps", 1e-5)
    if forward.is_folded(input, norm):
        return forms.damped(input, forward.call.epsilon)
    mean, variance, weight, bias, eps = norm
    shape = 1, -1, *[1] * (input.ndim - 2)
    scale = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    if forward.audit:
        shift = (0 if bias is None else bias) - mean * scale
        return input * scale.view(shape) + forward.given(shift.view(shape))
    with torch.no_grad():
        y = F.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps)
    return forms.with_gradient(input, y, lambda grad: grad * scale.view(shape).to(grad.dtype))


def norm_max(forward: Any, function: Rule, input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor,
             eps: float, rectify: bool) -> Any:  # fmt: skip
    """Batch norm, maximum over points, ReLU: no relevance reaches any but the winners."""
    if not forward.is_folded(input, (mean, variance, detached(weight), detached(bias), eps)):
        scale = torch.rsqrt(variance + eps) * weight.detach()
        input = input * scale + forward.given(bias.detach() - mean * scale)
    out = forms.damped(input.max(-2).values, forward.call.epsilon)
    return out.relu() if rectify else out


def relu(forward: Any, function: Rule, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Relevance passes; the epsilon of the sum that it alone reads is applied in the same pass over memory."""
    call = forward.call
    return (
        forms.rectified(input, call.epsilon, call.in_place and not input._is_view()) if call.epsilon else input.relu()
    )


def layer_norm(forward: Any, function: Rule, input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5, *rest: Any, **kwargs: Any) -> Any:  # fmt: skip
    """The standard deviation is taken as given (Ali et al. 2022)."""
    shape, weight = list(normalized_shape), detached(weight)
    if not forward.audit or bias is None:
        return forms.layer_norm(input, shape, weight, detached(bias), eps)
    return forms.layer_norm(input, shape, weight, None, eps) + forward.given(bias.detach())


def group_norm(forward: Any, function: Rule, input: Tensor, num_groups: int, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5, *rest: Any, **kwargs: Any) -> Any:  # fmt: skip
    """The standard deviations are taken as given."""
    if not forward.audit or bias is None:
        return forms.group_norm(input, num_groups, detached(weight), detached(bias), eps)
    shift = forward.given(bias.detach().view(1, -1, *[1] * (input.ndim - 2)))
    return forms.group_norm(input, num_groups, detached(weight), None, eps) + shift


def instance_norm(forward: Any, function: Rule, input: Tensor, running_mean: Any = None, running_var: Any = None,
                  weight: Any = None, bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-5) -> Any:  # fmt: skip
    """A group norm with a group for each channel."""
    if not use_input_stats:
        raise ReldropError("instance_norm with running statistics has no rule")
    return group_norm(forward, function, input, input.shape[1], weight, bias, eps)


def rms_norm(forward: Any, function: Rule, input: Tensor, normalized_shape: Any, weight: Any = None,
             eps: float | None = None) -> Any:  # fmt: skip
    """The root of the mean square is taken as given."""
    axes = tuple(range(-len(normalized_shape), 0))
    with torch.no_grad():
        square = input.to(torch.promote_types(input.dtype, torch.float32)).square().mean(axes, keepdim=True)
        factor = (square + (torch.finfo(input.dtype).eps if eps is None else eps)).rsqrt().to(input.dtype)
    return input * factor if weight is None else input * factor * weight.detach()


def normalize(forward: Any, function: Rule, input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12,
              out: None = None) -> Any:  # fmt: skip
    """The norm is taken as given."""
    return input / input.detach().norm(p, dim, keepdim=True).clamp_min(eps)


def attention(forward: Any, function: Rule, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None,
              *args: Any, **kwargs: Any) -> Any:  # fmt: skip
    """softmax(q k') v by torch's fused kernels; AttnLRP (Achtibat et al. 2024) or CP-LRP (Ali et al. 2022).

    Each product gives half to each factor, so that queries, keys and values get 1/4, 1/4 and 1/2; in CP-LRP the values
    get all. A query that is no function of the input leaves its share to the keys, and a key likewise.
    """
    of_q, of_k, of_v = forward.shares
    if not (forward.carries(query) and forward.carries(key)):
        of_q = of_k = of_q + of_k
    if not of_q:
        query, key = query.detach(), key.detach()
    shared = (
        forms.scaled(x, share) if forward.carries(x) else x.detach()
        for x, share in ((query, of_q), (key, of_k), (value, of_v))
    )
    return function(*shared, detached(attn_mask), *args, **kwargs)


def softmax(forward: Any, function: Rule, *args: Any, **kwargs: Any) -> Any:
    """The ordinary gradient (Achtibat et al. 2024), or, in CP-LRP, given."""
    return (as_is if forward.shares[0] else given)(forward, function, *args, **kwargs)


def log_softmax(forward: Any, function: Rule, input: Tensor, dim: int = -1, *args: Any, **kwargs: Any) -> Any:
    """The logarithm of the sum is taken as given."""
    return input - forward.given(input.detach().logsumexp(dim, keepdim=True))


def addmm(forward: Any, function: Rule, input: Tensor, first: Tensor, second: Tensor, *, beta: float = 1,
          alpha: float = 1, **kwargs: Any) -> Any:  # fmt: skip
    """A sum with a product of matrices."""
    out = torch.matmul(*forward.shared((first, second)))
    if function.__name__.startswith("addbmm"):
        out = out.sum(0)
    return forward.given(input) * beta + out * alpha


def addcmul(forward: Any, function: Rule, input: Tensor, first: Tensor, second: Tensor, *, value: float = 1) -> Any:
    """A sum with a product."""
    first, second = forward.shared((first, second))
    return forward.given(input) + value * (first * second)


def lerp(forward: Any, function: Rule, input: Tensor, end: Tensor, weight: Any) -> Any:
    """A sum of two values, whose weights are taken as given, as those of gates."""
    return function(forward.given(input), forward.given(end), detached(weight))


def align(forward: Any, function: Rule, points: Tensor, matrix: Tensor) -> Any:
    """Points times the matrix of a T-Net, which is taken as given: all relevance goes to the signal of a gate."""
    return function(points, matrix.detach())


for _group, _rule in (
    (LINEAR, linear),
    (MOVES | CHOICES, as_is),
    (AVERAGES, average),
    (ADDS, add),
    (JOINS, join),
    (ACTIVATIONS, activation),
    (GIVEN, given),
    (PRODUCTS, product),
    (QUOTIENTS, quotient),
    (names("addmm addbmm baddbmm"), addmm),
    (names("softmax _softmax"), softmax),
):
    RULES.update(dict.fromkeys(_group, _rule))
for _rule in (
    batch_norm,
    norm_max,
    relu,
    layer_norm,
    group_norm,
    instance_norm,
    rms_norm,
    normalize,
    log_softmax,
    addcmul,
    lerp,
    align,
):
    RULES[_rule.__name__] = _rule
RULES["scaled_dot_product_attention"] = attention

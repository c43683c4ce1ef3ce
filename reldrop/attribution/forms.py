"""Operations in the form whose gradient is their rule.

Layer-wise relevance propagation can be written as R = a * g at every value a, where g is a gradient whose backward pass
was changed a little (Shrikumar et al. 2016, Ancona et al. 2018, Montavon et al. 2019). For z = Wx + b and R_z = z * g_z:

    Epsilon    R_x = x * W^T (R_z / (z + eps sign z))     ->  g_x = W^T (g_z * |z| / (|z| + eps))
    sum        s = x + y, R_x = x * R_s / s               ->  g_x = g_y = g_s
    ReLU, max  R goes to what is passed on                ->  the ordinary gradient
    x f(x)     the factor f(x) is taken as given          ->  g_x = g_y y / x
    LayerNorm  its standard deviation is taken as given   ->  g_x = (1 - mean) (g_y w / s)
    product    z = x y, half of R_z to each               ->  g_x = y g_z / 2, g_y = x g_z / 2
    softmax    R_x = x (R_y - y sum R_y)                  ->  the ordinary gradient

(the last four are AttnLRP, Achtibat et al. 2024), so with eps = 0 Epsilon-LRP of a ReLU network is gradient times input.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Pull = Callable[[Tensor], Tensor]  # the gradient of an output -> that of the input


class _Formed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, pull: Pull) -> Tensor:
        ctx.pull = pull
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.pull(grad), None, None


def with_gradient(x: Tensor, y: Tensor, pull: Pull) -> Tensor:
    """Return `y` as a function of `x` whose gradient is pull(gradient of y)."""
    return _Formed.apply(x, y.detach(), pull)  # `pull` may hold y itself: it must not become part of the graph


def scaled(x: Tensor, factor: float) -> Tensor:
    """Return `x`; its gradient is multiplied by `factor`."""
    return x if factor == 1 else with_gradient(x, x, lambda grad: grad * factor)


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """Move `z` away from zero by `epsilon`: z + epsilon * sign(z), where the sign of zero is +1 (as in zennit)."""
    return torch.where(z < 0, z - epsilon, z + epsilon)


def damped(z: Tensor, epsilon: float) -> Tensor:
    """Return `z`; its gradient is multiplied by |z| / (|z| + epsilon), the Epsilon rule's share. Any shape."""
    if not epsilon:
        return z
    kept, epsilon = z.detach(), _representable(epsilon, z)
    return with_gradient(z, kept, lambda grad: torch.addcdiv(grad, grad, kept.abs().add_(epsilon), value=-epsilon))


def rectified(z: Tensor, epsilon: float, in_place: bool = False) -> Tensor:
    """Return relu(z), with the gradient factor of `damped` for the sum `z`.

    Args:
        in_place: overwrite `z`, which nothing else may need: neither another reader nor the backward pass of its maker.
    """
    a = z.detach().relu_() if in_place else z.detach().relu()
    epsilon = _representable(epsilon, z)

    def pull(grad: Tensor) -> Tensor:
        share = a + epsilon
        return torch.div(a, share, out=share).mul_(grad)

    return with_gradient(z, a, pull)


def activated(x: Tensor, y: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return y = f(x) as x times the given factor y / x; with the gradient factor of `damped` for the sum `x`."""
    kept, epsilon = x.detach(), _representable(epsilon, x)

    def pull(grad: Tensor) -> Tensor:
        factor = torch.copysign(kept.new_full((), epsilon), kept).add_(kept)
        return torch.div(y, factor, out=factor).mul_(grad)

    return with_gradient(x, y, pull)


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return the layer norm of `x` over its last dimensions `shape`, the standard deviation taken as given.

    The gradient rstd (g w - mean(g w)) is what torch's own kernel computes for an input that equals its mean.
    """
    wide = _wide(x)
    weight, bias = (None if value is None else value.to(wide) for value in (weight, bias))
    y, _, rstd = torch.native_layer_norm(x.detach().to(wide), shape, weight, bias, eps)

    def pull(grad: Tensor) -> Tensor:
        grad = grad.to(wide)
        known = torch.zeros_like(grad), shape, torch.zeros_like(rstd), rstd, weight, None, [True, False, False]
        return torch.ops.aten.native_layer_norm_backward(grad, *known)[0]

    return with_gradient(x, y.to(x.dtype), pull)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return the group norm of x (B, C, ...), the standard deviations taken as given."""
    wide = _wide(x)
    weight, bias = (None if value is None else value.to(wide) for value in (weight, bias))
    size = x.shape[0], x.shape[1], math.prod(x.shape[2:]), groups
    y, _, rstd = torch.native_group_norm(x.detach().to(wide).contiguous(), weight, bias, *size, eps)

    def pull(grad: Tensor) -> Tensor:
        grad = grad.to(wide).contiguous()
        known = torch.zeros_like(grad), torch.zeros_like(rstd), rstd, weight, *size, [True, False, False]
        return torch.ops.aten.native_group_norm_backward(grad, *known)[0]

    return with_gradient(x, y.to(x.dtype), pull)


def zplus(linear: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """Return linear(x, weight, bias) with the ZPlus rule (alpha = 1, beta = 0; Bach et al. 2015) as its backward pass.

    Args:
        epsilon: stabilizer of the denominator, 1e-6 in zennit.
    """
    z = linear(x.detach(), weight, bias)
    kept, weight, bias = (None if value is None else value.detach().to(z.dtype) for value in (x, weight, bias))
    epsilon = _representable(epsilon, z)

    def pull(grad: Tensor) -> Tensor:
        parts = [
            (kept.clamp(min=0), weight.clamp(min=0), None if bias is None else bias.clamp(min=0)),
            (kept.clamp(max=0), weight.clamp(max=0), None),
        ]
        above, below = _gradients(linear, parts, lambda total: grad * z / stabilize(total, epsilon))
        return torch.where(kept > 0, above, below)

    return with_gradient(x, z, pull)


def gamma(
    linear: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float, gamma: float
) -> Tensor:
    """Return linear(x, weight, bias) with the Gamma rule (Montavon et al. 2019), for inputs of any sign as in zennit.

    What agrees with the sign of an output counts 1 + gamma times.
    """
    z = linear(x.detach(), weight, bias)
    kept, weight, bias = (None if value is None else value.detach().to(z.dtype) for value in (x, weight, bias))
    epsilon = _representable(epsilon, z)

    def pull(grad: Tensor) -> Tensor:
        strong, weak = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
        found = torch.zeros_like(kept)
        for sign, first, second in ((1, strong, weak), (-1, weak, strong)):
            side = None if bias is None else bias + gamma * (bias.clamp(min=0) if sign > 0 else bias.clamp(max=0))
            parts = [(kept.clamp(min=0), first, side), (kept.clamp(max=0), second, None)]
            of_side = torch.where(z * sign > 0, grad * z, 0)
            above, below = _gradients(linear, parts, lambda total, r=of_side: r / stabilize(total, epsilon))
            found += torch.where(kept > 0, above, below)
        return found

    return with_gradient(x, z, pull)


def relevance_of_parts(
    linear: Callable[..., Tensor], parts: Sequence[tuple[Tensor, Tensor]], relevance: Tensor, epsilon: float
) -> Tensor:
    """Return the relevance of the input of a linear map: sum over (u, w) of u * w^T (relevance / sum of linear(u, w)).

    Args:
        linear: a linear map of (input, weight, bias), e.g. a convolution with its stride and padding bound.
        parts: (w, weight) of each part: ones and squared weights for WSquare, and so on.
        relevance: behind the map.
        epsilon: stabilizer of the denominator.
    """
    parts = [(u.to(relevance.dtype), w.to(relevance.dtype)) for u, w in parts]
    gradients = _gradients(linear, [(u, w, None) for u, w in parts], lambda z: relevance / stabilize(z, epsilon))
    return sum(u * grad for (u, _), grad in zip(parts, gradients, strict=True))


def _gradients(linear: Callable[..., Tensor], parts: Sequence[tuple], message: Callable[[Tensor], Tensor]) -> tuple:
    """Gradients with respect to u of each (u, weight, bias), for the gradient message(z) of z = sum of linear(...)."""
    with torch.enable_grad():
        inputs = [u.detach().requires_grad_() for u, _, _ in parts]
        z = sum(linear(u, weight, bias) for u, (_, weight, bias) in zip(inputs, parts, strict=True))
        return torch.autograd.grad(z, inputs, message(z.detach()))


def _representable(epsilon: float, z: Tensor) -> float:
    """Keep a positive epsilon positive in half precision, and 0 / 0 out of all others."""
    return max(epsilon, torch.finfo(z.dtype).tiny)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)  # sums of squares need it

"""LRP rules as changes to the gradient.

Layer-wise relevance propagation can be written as R = a * g at every activation a, where g is a gradient whose
backward pass was changed a little (Shrikumar et al. 2016, Ancona et al. 2018, Montavon et al. 2019). For a layer z =
Wx + b that hands relevance R_z = z * g_z to its input:

    Epsilon    R_x = x * W^T (R_z / (z + eps sign z))     ->  g_x = W^T (g_z * |z| / (|z| + eps))
    ZPlus      R_x = x+ * W+^T (R_z / z+) (+ the negative part)
    residual   s = x + y, R_x = x * R_s / s               ->  g_x = g_y = g_s
    ReLU       R passes unchanged                         ->  the ordinary gradient
    max pool   R goes to the winner                       ->  the ordinary gradient
    LayerNorm  its standard deviation is a constant       ->  g_x = (1 - mean) (g_y w / s)
    GELU       y = x c, its factor c is a constant        ->  g_x = g_y y / x
    product    z = x y, half of R_z to each               ->  g_x = y g_z / 2, g_y = x g_z / 2
    softmax    R_x = x (R_y - y sum R_y)                  ->  the ordinary gradient

(the last four are AttnLRP, Achtibat et al. 2024), so with eps = 0 Epsilon-LRP of a ReLU network is gradient times input.
The functions below are ordinary operations whose backward pass carries these factors; everything else is left to autograd.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """Move `z` away from zero by `epsilon`: z + epsilon * sign(z), where the sign of zero is +1 (as in zennit)."""
    return torch.where(z < 0, z - epsilon, z + epsilon)


def _representable(epsilon: float, dtype: torch.dtype) -> float:
    """Keep a positive epsilon positive in half precision, where 0 / epsilon would otherwise be 0 / 0."""
    return max(epsilon, torch.finfo(dtype).tiny)


class _EpsilonIdentity(Function):
    """Identity whose gradient is multiplied by |z| / (|z| + epsilon)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.epsilon = _representable(epsilon, z.dtype)
        return z.view_as(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        size = ctx.saved_tensors[0].abs()
        return (size / (size + ctx.epsilon)).mul_(grad), None


class _EpsilonReLU(Function):
    """ReLU whose gradient also carries the factor |z| / (|z| + epsilon) of the layer in front of it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float, in_place: bool) -> Tensor:
        a = z.relu_() if in_place else z.relu()
        if in_place:
            ctx.mark_dirty(a)
        ctx.save_for_backward(a)  # as the next layer does: no further memory
        ctx.epsilon = _representable(epsilon, z.dtype)
        return a

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        a = ctx.saved_tensors[0]
        factor = a + ctx.epsilon
        return torch.div(a, factor, out=factor).mul_(grad), None, None


class _ZPlus(Function):
    """A linear layer whose backward pass is the ZPlus rule (alpha = 1, beta = 0)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        linear: Callable[..., Tensor],
        nonnegative: bool,
        epsilon: float,
    ) -> Tensor:
        z = linear(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        ctx.linear, ctx.nonnegative, ctx.epsilon = linear, nonnegative, epsilon
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        with torch.enable_grad():
            positive = (x if ctx.nonnegative else x.clamp(min=0)).detach().requires_grad_()
            total = ctx.linear(positive, weight.clamp(min=0), bias.clamp(min=0))
            parts = [positive]
            if not ctx.nonnegative:  # behind a ReLU the second branch is zero and need not be computed
                parts.append(x.clamp(max=0).detach().requires_grad_())
                total = total + ctx.linear(parts[1], weight.clamp(max=0), torch.zeros_like(bias))
            message = grad * z / stabilize(total.detach(), _representable(ctx.epsilon, z.dtype))
            grads = torch.autograd.grad(total, parts, message)
        grad_x = grads[0] if ctx.nonnegative else torch.where(x > 0, grads[0], grads[1])
        return grad_x, None, None, None, None, None


def epsilon_identity(z: Tensor, epsilon: float) -> Tensor:
    """Return `z`; its gradient is multiplied by |z| / (|z| + epsilon), the Epsilon rule's share. Any shape."""
    return _EpsilonIdentity.apply(z, epsilon) if epsilon > 0 else z


def epsilon_relu(z: Tensor, epsilon: float, in_place: bool = False) -> Tensor:
    """Return relu(z), with the gradient factor of `epsilon_identity` for the layer that made `z`. Any shape.

    Args:
        in_place: overwrite `z`, which nothing else may need: neither another reader nor the backward pass of its maker.
            A view is not overwritten, as autograd would copy what it is a view of.
    """
    in_place = in_place and not z._is_view()
    if epsilon > 0:
        return _EpsilonReLU.apply(z, epsilon, in_place)
    return z.relu_() if in_place else z.relu()


def zplus(
    x: Tensor, weight: Tensor, bias: Tensor, linear: Callable[..., Tensor], *, nonnegative: bool, epsilon: float
) -> Tensor:
    """Return linear(x, weight, bias) with the ZPlus rule as its backward pass.

    Args:
        linear: a linear map, e.g. a convolution with its stride and padding bound.
        nonnegative: whether all of `x` is known to be >= 0, which saves half of the work.
        epsilon: stabilizer of the denominator, 1e-6 in zennit.
    """
    return _ZPlus.apply(x, weight, bias, linear, nonnegative, epsilon)


class _LayerNorm(Function):
    """Layer norm whose standard deviation counts as a constant in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        y, _, inverse = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(inverse, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inverse, weight = ctx.saved_tensors
        scaled = (grad if weight is None else grad * weight) * inverse.to(grad.dtype)
        return scaled - scaled.mean(-1, keepdim=True), None, None, None


class _Gelu(Function):
    """GELU with the backward pass of a product with a constant: the gradient is multiplied by gelu(x) / x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return torch.nn.functional.gelu(x, approximate=approximate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        y = torch.nn.functional.gelu(x, approximate=ctx.approximate)
        return grad * torch.where(x == 0, 0.5, y / x), None  # 0.5 is its limit


class _Scaled(Function):
    """Identity whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        return (grad * ctx.factor if ctx.factor else None), None


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return the layer norm of x over its last dimension; in the backward pass its standard deviation is a constant."""
    return _LayerNorm.apply(x, weight, bias, eps)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return gelu(x), with the gradient of a product of x with a constant. Any shape."""
    return _Gelu.apply(x, approximate)


# Shares of the relevance of softmax(q k') v that q, k and v get. Each product gives half to each factor; what the values
# do not get goes through the softmax to queries and keys, and half of that to either.
ATTENTION = {"attnlrp": (0.25, 0.25, 0.5), "cplrp": (0.0, 0.0, 1.0)}


def attention(q: Tensor, k: Tensor, v: Tensor, shares: tuple[float, float, float], **options: Any) -> Tensor:
    """Return softmax(q k') v with its gradients multiplied by the shares of q, k and v, so that relevance is split.

    The kernels of scaled_dot_product_attention are used as they are. Shares (1/4, 1/4, 1/2) are AttnLRP; with (0, 0, 1)
    the weights of the attention are constants (CP-LRP, Ali et al. 2022). A query that is no function of the input
    leaves its share to the keys.

    Args:
        q, k, v: (B, heads, tokens, width).
        options: of scaled_dot_product_attention.
    """
    of_q, of_k, of_v = shares
    if not q.requires_grad:
        of_k += of_q
    if of_q == of_k == 0:
        q, k = q.detach(), k.detach()
    scaled = (_Scaled.apply(x, share) if share != 1 else x for x, share in ((q, of_q), (k, of_k), (v, of_v)))
    return torch.nn.functional.scaled_dot_product_attention(*scaled, **options)

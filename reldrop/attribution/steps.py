"""The single steps of a traced network, as functions of the values they read."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reldrop.attribution import rules
from reldrop.utils.errors import ReldropError


@dataclass
class Step:
    """One operation: `run(*values of inputs, dtype of linear layers)`, with what its rule needs to know.

    Attributes:
        layers: the modules it reads, by qualified name: a linear layer, and the batch norm merged into it.
        epsilon: what stabilizes the share of each input in the sum that this step computes; 0 for no sum.
        nonnegative: whether its output cannot be negative.
        keeps_output: whether its backward pass needs its output as it is.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    run: Callable[..., Tensor]
    layers: dict[str, nn.Module] = field(default_factory=dict)
    epsilon: float = 0.0
    nonnegative: bool = False
    keeps_output: bool = False


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` into evaluation mode, and give each submodule its own training flag back afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, flag in flags:
            module.training = flag


def operation(
    node: fx.Node, kind: str, modules: dict[str, nn.Module], shares: tuple[float, float, float]
) -> Callable[..., Any]:
    """An operation without merged weights as a function of the nodes it reads, and of a dtype.

    Args:
        shares: of relevance that queries, keys and values of attention get.
    """
    names = node.all_input_nodes
    module = modules[node.target] if node.op == "call_module" else None

    def arguments(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = dict(zip(names, values, strict=False))  # the last value is the dtype
        return fx.node.map_arg(node.args, given.__getitem__), fx.node.map_arg(node.kwargs, given.__getitem__)

    def run(*values: Any) -> Any:
        args, kwargs = arguments(values)
        if kind == "gate":
            args = (args[0], *(value.detach().to(args[0].dtype) for value in args[1:]))
        if module is not None:
            return module(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    def attend(*values: Any) -> Tensor:
        args, kwargs = arguments(values)
        return rules.attention(*args[:3], shares, **dict(zip(_ATTENTION_OPTIONS, args[3:], strict=False)), **kwargs)

    if kind == "choice":
        return _choice(node, module, modules, run)
    if kind == "add":
        return lambda x, y, dtype: x + y
    if kind == "attention":
        return attend
    if kind == "layer_norm":
        if len(module.normalized_shape) != 1:
            raise refusal(f"{describe(node, modules)} normalizes over more than channels")
        return lambda x, dtype: _normalized(x, module)
    if kind == "gelu":
        options = {"approximate": module.approximate} if hasattr(module, "approximate") else dict(node.kwargs)
        return lambda x, dtype: rules.gelu(x, **options)
    if kind == "scale":
        return lambda x, dtype: x * module.gamma.detach().to(x.dtype)
    return run


_ATTENTION_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale")


def _normalized(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)  # sums of squares need it
    weight, bias = (None if value is None else value.detach().to(wide) for value in (norm.weight, norm.bias))
    return rules.layer_norm(x.to(wide), weight, bias, norm.eps).to(x.dtype)


def _choice(
    node: fx.Node, module: nn.Module | None, modules: dict[str, nn.Module], run: Callable[..., Any]
) -> Callable[..., Any]:
    """A decision or a constant: no gradient passes, and a module that decides does so in evaluation mode."""
    if node.op == "get_attr":
        *path, name = node.target.split(".")
        owner = weakref.ref(
            modules[".".join(path)]
        )  # it may be the network itself, which the graph must not keep alive
        return lambda dtype: getattr(owner(), name).detach()

    def choose(*values: Any) -> Any:
        with torch.no_grad():
            if module is None:
                return run(*values)
            dtype, device = values[-1], values[0].device.type
            half = dtype in (torch.float16, torch.bfloat16)
            # It is a network of its own. Its weights cast here must not be found again in training.
            own = torch.autocast(device, dtype=dtype if half else None, enabled=half, cache_enabled=False)
            with evaluation_mode(module), own:
                return run(*values)

    return choose


def linear_map(module: nn.Module) -> Callable[..., Tensor]:
    """The computation of a linear layer as a function of its inputs, weight and bias."""
    if hasattr(module, "compute"):
        return module.compute
    if type(module) is nn.Linear:
        return F.linear
    if module.padding_mode != "zeros":
        raise refusal(f"a convolution with padding mode {module.padding_mode!r} has no rule")
    return partial(
        F.conv2d, stride=module.stride, padding=module.padding, dilation=module.dilation, groups=module.groups
    )


def merged(layer: nn.Module, norm: nn.Module | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer and the batch norm behind it as one linear map, detached from the parameters."""
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    if norm is not None:
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        bias = (bias - norm.running_mean) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.detach()
    return weight.to(dtype), bias.to(dtype)


def describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Name a node as its user would find it in the printed model."""
    if node.op == "call_module":
        return f"module {node.target} ({type(modules[node.target]).__name__})"
    inside = list(node.meta.get("nn_module_stack") or {"": ""})[-1]
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"operation {target!r} in module {inside or 'the network itself'}"


def refusal(reason: str) -> ReldropError:
    return ReldropError(
        f"attribution=gradient cannot propagate relevance through this network: {reason}. "
        "Choose attribution=zennit, or attribution=input_gradient as a control."
    )

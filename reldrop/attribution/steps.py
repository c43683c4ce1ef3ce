"""The single steps of a traced network, as functions of the values they read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reldrop.errors import ReldropError


@dataclass
class Step:
    """One operation: `run(*values of inputs, dtype of linear layers)`, with what its rule needs to know.

    Attributes:
        layers: the modules it reads, by qualified name: a linear layer, and the batch norm merged into it.
        epsilon: what stabilises the share of each input in the sum that this step computes; 0 for no sum.
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


def operation(node: fx.Node, kind: str, modules: dict[str, nn.Module]) -> Callable[..., Tensor]:
    """The parameter-free operation of a node as a function of the nodes it reads, and of a dtype that it ignores."""
    names = node.all_input_nodes
    if kind == "add":
        return lambda x, y, dtype: x + y

    def run(*values: Any) -> Tensor:
        given = dict(zip(names, values, strict=False))
        args, kwargs = (fx.node.map_arg(part, given.__getitem__) for part in (node.args, node.kwargs))
        if kind == "gate":
            args = (args[0], *(value.detach().to(args[0].dtype) for value in args[1:]))
        if node.op == "call_module":
            return modules[node.target](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    if kind != "choice":
        return run

    def choose(*values: Any) -> Tensor:
        deciding = [modules[node.target]] if node.op == "call_module" else []
        *inputs, dtype = values
        half = dtype in (torch.float16, torch.bfloat16)
        # A module that decides is a network of its own. Its weights cast here must not be found again in training.
        own = torch.autocast(inputs[0].device.type, dtype=dtype if half else None, enabled=half, cache_enabled=False)
        with torch.no_grad(), evaluation_mode(nn.ModuleList(deciding)), own if deciding else nullcontext():
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

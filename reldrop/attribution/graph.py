"""A network as the list of steps that relevance propagation needs: traced once, then run without touching the model.

Tracing (torch.fx) shows what hooks on modules cannot see: which sums are residual sums, which batch norm belongs to
which convolution, and every functional operation. Whatever has no rule here is refused by name.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reldrop.attribution import rules
from reldrop.errors import ReldropError

# The names are those of the rules below. Exact types, not subclasses: a subclass may compute something else.
_LAYERS = {
    nn.Conv2d: "linear",
    nn.Linear: "linear",
    nn.BatchNorm2d: "batch_norm",
    nn.BatchNorm1d: "batch_norm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "select",
    nn.AvgPool2d: "average",
    nn.AdaptiveAvgPool2d: "average",
    nn.Flatten: "reshape",
    nn.Identity: "pass",
    nn.Dropout: "pass",
    nn.Dropout2d: "pass",
}
_TIMM_LAYERS = {
    "DropPath": "pass",
    "DropBlock2d": "pass",
    "FastAdaptiveAvgPool": "average",
    "BlurPool2d": "average",
}
_FUNCTIONS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    F.relu: "relu",
    torch.relu: "relu",
    F.max_pool2d: "select",
    F.avg_pool2d: "average",
    F.adaptive_avg_pool2d: "average",
    torch.flatten: "reshape",
    F.dropout: "pass",
}
_METHODS = {"add": "add", "add_": "add", "relu": "relu", "relu_": "relu", "flatten": "reshape", "mean": "average"}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        return _layer_kind(m) is not None or super().is_leaf_module(m, qualified_name)


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


@dataclass
class Step:
    """One operation: `run(*values of inputs)`, with what its rule needs to know.

    Attributes:
        layers: the modules it reads, by qualified name: a linear layer, and the batch norm merged into it.
        epsilon: what stabilises the share of each input in the sum that this step computes; 0 for no sum.
        nonnegative: whether its output cannot be negative.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    run: Callable[..., Tensor]
    layers: dict[str, nn.Module] = field(default_factory=dict)
    epsilon: float = 0.0
    nonnegative: bool = False


class Graph:
    """The steps of `model` from its input to its output.

    Args:
        model: takes (B, C, H, W), gives logits (B, K).
        epsilon: of the Epsilon rule, >= 0.
        middle: rule of the convolutions behind the stem, "epsilon" or "zplus".
        stabiliser: epsilon of all other sums.

    Raises:
        ReldropError: if the network contains anything without a rule; the message names it.
    """

    def __init__(self, model: nn.Module, epsilon: float, middle: str, stabiliser: float) -> None:
        self.epsilon, self.middle, self.stabiliser = epsilon, middle, stabiliser
        self.steps: dict[str, Step] = {}
        self._alias: dict[str, str] = {}  # nodes that change nothing, or that another step computes as well
        self._modules = dict(model.named_modules())
        self._refuse_unknown_layers()
        for node in self._trace(model):
            if node.op == "placeholder":
                self.input = node.name
            elif node.op == "output":
                self._set_output(node)
            elif node.name not in self._alias:
                self._add(node)
        del self._modules
        self._set_stem(model)
        self._insert_epsilon()
        last_use = {name: step.name for step in self.steps.values() for name in step.inputs}
        self._release = {
            step.name: [name for name in step.inputs if last_use[name] == step.name] for step in self.steps.values()
        }

    def fits(self, model: nn.Module) -> bool:
        """Whether the layers read here are still those of `model` (a head may have been replaced since)."""
        modules = dict(model.named_modules())
        return all(modules.get(name) is layer for step in self.steps.values() for name, layer in step.layers.items())

    def run_stem(self, inputs: Tensor) -> Tensor:
        """Return the (batch-normalised) output of the first convolution, before its activation: (B, D, H', W')."""
        return self.stem.run(inputs)

    def run_rest(self, stem_output: Tensor) -> Tensor:
        """Return the logits (B, K), with the rules in the backward pass; to be called with gradients enabled."""
        values = {self.stem.name: stem_output}
        for step in list(self.steps.values())[1:]:
            values[step.name] = step.run(*(values[name] for name in step.inputs))
            for name in self._release[step.name]:
                values.pop(name, None)
        return values[self.output]

    # ---- building -------------------------------------------------------------------------------------------------

    def _refuse_unknown_layers(self) -> None:
        """Name the layer without a rule, where tracing could only name an operation inside it."""
        for name, module in self._modules.items():
            library = type(module).__module__.split(".")[0]
            if library in ("torch", "timm") and not list(module.children()) and _layer_kind(module) is None:
                raise _refusal(f"module {name} ({type(module).__name__}) has no rule")

    def _trace(self, model: nn.Module) -> list[fx.Node]:
        try:
            with evaluation_mode(model):
                return list(_Tracer().trace(model).nodes)
        except Exception as error:  # fx raises many types; all mean the same to the user
            reason = str(error).strip().splitlines()[0]
            raise _refusal(f"{type(model).__name__} cannot be traced ({reason})") from error

    def _add(self, node: fx.Node) -> None:
        kind = _kind(node, self._modules)
        where = _describe(node, self._modules)
        inputs = tuple(self._resolve(value.name) for value in node.args if isinstance(value, fx.Node))
        if kind is None:
            raise _refusal(f"{where} has no rule")
        if kind == "batch_norm":
            raise _refusal(f"{where} does not follow a convolution or linear layer it could be merged into")
        if kind == "add" and (len(inputs) != 2 or node.kwargs):
            raise _refusal(f"{where} is not a plain sum of two branches")
        if kind == "pass":
            self._alias[node.name] = inputs[0]
        elif kind == "linear":
            self.steps[node.name] = self._linear(node, inputs)
        else:
            keeps_sign = all(name in self.steps and self.steps[name].nonnegative for name in inputs)
            self.steps[node.name] = Step(
                node.name,
                kind,
                inputs,
                torch.add if kind == "add" else _operation(node, self._modules),
                epsilon=self.stabiliser if kind in ("add", "average") else 0.0,
                nonnegative=kind == "relu" or keeps_sign,
            )

    def _linear(self, node: fx.Node, inputs: tuple[str, ...]) -> Step:
        """A convolution or linear layer, with the batch norm that alone reads its output merged into its weights."""
        layer = self._modules[node.target]
        layers = {node.target: layer}
        users = list(node.users)
        norm = None
        if len(users) == 1 and _kind(users[0], self._modules) == "batch_norm":
            norm = layers[users[0].target] = self._modules[users[0].target]
            self._alias[users[0].name] = node.name
            if norm.running_mean is None:
                raise _refusal(f"{_describe(users[0], self._modules)} keeps no running statistics")
        linear = _bind(layer)
        if self.middle == "zplus" and self.steps and type(layer) is nn.Conv2d:  # not the stem, not the classifier
            nonnegative = self.steps[inputs[0]].nonnegative
            rule = partial(rules.zplus, linear=linear, nonnegative=nonnegative, epsilon=self.stabiliser)
            return Step(node.name, "linear", inputs, lambda x: rule(x, *_merged(layer, norm, x.dtype)), layers)
        return Step(
            node.name, "linear", inputs, lambda x: linear(x, *_merged(layer, norm, x.dtype)), layers, self.epsilon
        )

    def _resolve(self, name: str) -> str:
        while name in self._alias:
            name = self._alias[name]
        return name

    def _set_output(self, node: fx.Node) -> None:
        if not isinstance(node.args[0], fx.Node):
            raise _refusal(f"the network returns a {type(node.args[0]).__name__}, not one tensor of logits")
        self.output = self._resolve(node.args[0].name)
        # The division by the last sum happens where the backward pass starts, see GradientLRP.
        self.output_epsilon = self.steps[self.output].epsilon
        self.steps[self.output].epsilon = 0.0

    def _set_stem(self, model: nn.Module) -> None:
        self.stem = next(iter(self.steps.values()))
        layer = next(iter(self.stem.layers.values()), None)
        readers = [step for step in self.steps.values() if self.input in step.inputs]
        if type(layer) is not nn.Conv2d or readers != [self.stem]:
            raise _refusal(f"the first layer of {type(model).__name__} is not a single convolution")
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise _refusal(f"the first convolution pads with {layer.padding_mode!r}, {layer.padding!r}")
        self.stem_layer = layer
        self.stem_epsilon, self.stem.epsilon = self.stem.epsilon, 0.0  # the stem's rule is GradientLRP's business

    def _insert_epsilon(self) -> None:
        """Give each sum its epsilon; a ReLU that alone reads a sum applies it as well, in one pass over memory."""
        readers = Counter(name for step in self.steps.values() for name in step.inputs)
        for step in self.steps.values():
            if step.kind == "relu":
                made = self.steps[step.inputs[0]]
                if readers[made.name] == 1:
                    step.epsilon, made.epsilon = made.epsilon, 0.0
        for step in self.steps.values():
            if step.kind == "relu":
                step.run = partial(rules.rectified, epsilon=step.epsilon)
            elif step.epsilon > 0:
                step.run = _then_damped(step.run, step.epsilon)


def _layer_kind(module: nn.Module) -> str | None:
    layer = type(module)
    return _TIMM_LAYERS.get(layer.__name__) if layer.__module__.startswith("timm.layers") else _LAYERS.get(layer)


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    if node.op == "call_module":
        return _layer_kind(modules[node.target])
    return {"call_function": _FUNCTIONS, "call_method": _METHODS}.get(node.op, {}).get(node.target)


def _operation(node: fx.Node, modules: dict[str, nn.Module]) -> Callable[[Tensor], Tensor]:
    """The parameter-free operation of a node as a function of its first argument."""
    rest, kwargs = node.args[1:], node.kwargs
    if node.op == "call_module":
        return modules[node.target]
    if node.op == "call_method":
        return lambda x: getattr(x, node.target)(*rest, **kwargs)
    return lambda x: node.target(x, *rest, **kwargs)


def _bind(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if type(layer) is nn.Linear:
        return F.linear
    if layer.padding_mode != "zeros":
        raise _refusal(f"a convolution with padding mode {layer.padding_mode!r} has no rule")
    return partial(F.conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)


def _merged(layer: nn.Module, norm: nn.Module | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
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


def _then_damped(run: Callable[..., Tensor], epsilon: float) -> Callable[..., Tensor]:
    return lambda *values: rules.damped(run(*values), epsilon)


def _describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Name a node as its user would find it in the printed model."""
    if node.op == "call_module":
        return f"module {node.target} ({type(modules[node.target]).__name__})"
    inside = list(node.meta.get("nn_module_stack") or {"": ""})[-1]
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"operation {target!r} in module {inside or 'the network itself'}"


def _refusal(reason: str) -> ReldropError:
    return ReldropError(
        f"attribution=gradient cannot propagate relevance through this network: {reason}. "
        "Choose attribution=zennit, or attribution=input_gradient as a control."
    )

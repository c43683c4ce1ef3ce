"""A network as the list of steps that relevance propagation needs: traced once, then run without touching the model.

Tracing (torch.fx) shows what hooks on modules cannot see: which sums are residual sums, which batch norm belongs to
which convolution, and every functional operation. Whatever has no rule here is refused by name.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reldrop.attribution import rules
from reldrop.attribution.kinds import OPAQUE_FUNCTIONS, layer_kind, node_kind
from reldrop.errors import ReldropError


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        return layer_kind(m) is not None or super().is_leaf_module(m, qualified_name)


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


@dataclass
class Source:
    """Where the backward pass ends: the relevance there is `value` times its gradient, summed over channels.

    Attributes:
        value: the output of a stem, or the input itself.
        spread: takes that relevance to the positions of the input, (B, H, W) or (B, N).
    """

    value: Tensor
    spread: Callable[[Tensor], Tensor]


class Graph:
    """The steps of `model` from its input to its output.

    Its stems are the first linear layers: one convolution, or, on point clouds, all those that read nothing but the
    points. They see single pixels' or points' surroundings, so that relevance can be shared out behind them.

    Args:
        model: takes images (B, C, H, W) or points (B, N, C), gives logits (B, K).
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
        self._set_stems(model)
        self._insert_epsilon()
        last_use = {name: step.name for step in self.steps.values() for name in step.inputs}
        self._release = {
            step.name: [name for name in step.inputs if last_use[name] == step.name] for step in self.steps.values()
        }

    def fits(self, model: nn.Module) -> bool:
        """Whether the layers read here are still those of `model` (a head may have been replaced since)."""
        modules = dict(model.named_modules())
        return all(modules.get(name) is layer for step in self.steps.values() for name, layer in step.layers.items())

    def run(self, inputs: Tensor, dtype: torch.dtype, from_stem: bool) -> tuple[Tensor, list[Source]]:
        """Return the logits (B, K), with the rules in the backward pass, and the sources to differentiate them to.

        To be called with gradients enabled, and without autocast.

        Args:
            dtype: what linear layers compute in.
            from_stem: whether the backward pass ends at the stems (and, for what reaches later layers past them, at the
                input), or at the input alone.
        """
        x = inputs.detach()
        sources = []
        if self.bypassed or not from_stem:
            x.requires_grad_()
            sources.append(Source(x, lambda relevance: relevance))
        values = {self.input: x}
        for step in self.steps.values():
            arguments = [values[name] for name in step.inputs]
            if step.name not in self.stems:
                values[step.name] = step.run(*arguments, dtype)
            elif from_stem:
                with torch.no_grad():
                    value = step.run(*arguments, dtype)
                values[step.name] = value.requires_grad_()
                sources.append(Source(value, partial(self.stems[step.name], arguments=arguments)))
            else:
                values[step.name] = rules.damped(step.run(*arguments, dtype), self.stem_epsilon)
            for name in self._release[step.name]:
                values.pop(name, None)
        return values[self.output], sources

    # ---- building -------------------------------------------------------------------------------------------------

    def _refuse_unknown_layers(self) -> None:
        """Name the layer without a rule, where tracing could only name an operation inside it."""
        for name, module in self._modules.items():
            library = type(module).__module__.split(".")[0]
            if library in ("torch", "timm") and not list(module.children()) and layer_kind(module) is None:
                raise _refusal(f"module {name} ({type(module).__name__}) has no rule")

    def _trace(self, model: nn.Module) -> list[fx.Node]:
        try:
            with evaluation_mode(model):
                return list(_Tracer(autowrap_functions=OPAQUE_FUNCTIONS).trace(model).nodes)
        except Exception as error:  # fx raises many types; all mean the same to the user
            reason = str(error).strip().splitlines()[0]
            raise _refusal(f"{type(model).__name__} cannot be traced ({reason})") from error

    def _add(self, node: fx.Node) -> None:
        kind = node_kind(node, self._modules)
        where = _describe(node, self._modules)
        inputs = tuple(self._resolve(value.name) for value in node.all_input_nodes)
        if kind is None:
            raise _refusal(f"{where} has no rule")
        if kind == "batch_norm":
            raise _refusal(f"{where} does not follow a convolution or linear layer it could be merged into")
        if kind == "add" and (len(inputs) != 2 or node.kwargs):
            raise _refusal(f"{where} is not a plain sum of two branches")
        if kind == "pass":
            self._alias[node.name] = inputs[0]
        elif kind == "linear":
            self._add_linear(node, inputs)
        elif kind == "norm_max":
            self._add_norm_max(node, inputs)
        else:
            keeps_sign = all(name in self.steps and self.steps[name].nonnegative for name in inputs)
            self.steps[node.name] = Step(
                node.name,
                kind,
                inputs,
                _operation(node, kind, self._modules),
                epsilon=self.stabiliser if kind in ("add", "average") else 0.0,
                nonnegative=kind == "relu" or (kind in ("select", "reshape", "average", "add") and keeps_sign),
            )

    def _add_linear(self, node: fx.Node, inputs: tuple[str, ...]) -> None:
        """A linear map, with the batch norm that alone reads its output merged into its weights."""
        module = self._modules[node.target]
        layer = module if hasattr(module, "weight") else module.linear
        layers = {node.target: module}
        norm = None
        reader = self._only_reader(node)
        kind = None if reader is None else node_kind(reader, self._modules)
        if kind in ("batch_norm", "norm_max"):
            layers[reader.target] = self._modules[reader.target]
            norm = layers[reader.target] if kind == "batch_norm" else layers[reader.target].norm
            if norm.running_mean is None:
                raise _refusal(f"{_describe(reader, self._modules)} keeps no running statistics")
        if kind == "batch_norm":
            self._alias[reader.name] = node.name
        compute = _bind(module)
        epsilon = self.epsilon
        zplus = (
            self.middle == "zplus" and bool(self.steps) and type(layer) is nn.Conv2d
        )  # not the stem, not the classifier
        if zplus:
            nonnegative = self.steps[inputs[0]].nonnegative
            compute = partial(rules.zplus, linear=compute, nonnegative=nonnegative, epsilon=self.stabiliser)
            epsilon = 0.0

        def run(*values: Tensor | torch.dtype) -> Tensor:
            *arguments, dtype = values
            precision = torch.promote_types(arguments[0].dtype, dtype) if module is not layer else dtype
            moved = (x.to(precision) if x.is_floating_point() else x for x in arguments)
            return compute(*moved, *_merged(layer, norm, precision)).to(dtype)

        self.steps[node.name] = Step(node.name, "linear", inputs, run, layers, epsilon, keeps_output=zplus)

    def _add_norm_max(self, node: fx.Node, inputs: tuple[str, ...]) -> None:
        """The maximum of what a linear layer with the norm merged into it gives; then ReLU, which now has less to do."""
        made = self.steps.get(inputs[0])
        module = self._modules[node.target]
        if made is None or node.target not in made.layers:
            raise _refusal(f"{_describe(node, self._modules)} does not follow a linear layer it could be merged into")
        pooled = f"{node.name}_max" if module.rectify else node.name
        # No gradient reaches any but the winners, so that the epsilon of the sum can wait for them.
        epsilon, made.epsilon = made.epsilon, 0.0
        self.steps[pooled] = Step(pooled, "select", inputs, lambda x, dtype: x.max(-2).values, epsilon=epsilon)
        if module.rectify:
            self.steps[node.name] = Step(node.name, "relu", (pooled,), lambda x, dtype: x.relu(), nonnegative=True)

    def _only_reader(self, node: fx.Node) -> fx.Node | None:
        """The one operation that reads a node, past those that change nothing in evaluation mode."""
        while len(node.users) == 1:
            node = next(iter(node.users))
            if node.op == "output" or node_kind(node, self._modules) != "pass":
                return node
        return None

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

    def _set_stems(self, model: nn.Module) -> None:
        """Find the stems, take their epsilon away (their rule is GradientLRP's business), and see what passes them by."""
        first = next(iter(self.steps.values()))
        layer = next(iter(first.layers.values()), None)
        readers = [step for step in self.steps.values() if self.input in step.inputs]
        self.stems: dict[str, Callable[..., Tensor]] = {}  # name -> how relevance behind it is shared out
        self.on_points = not (type(layer) is nn.Conv2d and readers == [first])
        if not self.on_points:
            if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                raise _refusal(f"the first convolution pads with {layer.padding_mode!r}, {layer.padding!r}")
            self.stems[first.name] = partial(spread_over_field, stem=layer, stabiliser=self.stabiliser)
            self.bypassed = False
        else:
            raw, later = self._reached_by_points()
            for name in raw:
                if (step := self.steps[name]).kind == "linear":
                    self.stems[name] = spread_over_points
            if not self.stems or any(self.steps[name].kind not in ("linear", "select", "gate") for name in raw):
                raise _refusal(
                    f"the first layer of {type(model).__name__} is not a single convolution, nor a layer on points (B, N, C)"
                )
            if self.middle == "zplus":
                raise ReldropError(
                    "attribution.middle=zplus is a rule for convolutions, and this network has none; set "
                    "attribution.middle=epsilon"
                )
            self.bypassed = bool(later)
        stems = [self.steps[name] for name in self.stems]
        self.stem_epsilon = stems[0].epsilon
        for step in stems:
            step.epsilon = 0.0

    def _reached_by_points(self) -> tuple[set[str], set[str]]:
        """Names of the steps whose inputs are nothing but points, and of the others that read points all the same."""
        points = {self.input}  # what holds input values, only selected or aligned
        raw, later = set(), set()
        for step in self.steps.values():
            if step.kind == "choice":
                continue
            carrying = [name for name in step.inputs if name == self.input or self.steps[name].kind != "choice"]
            if step.kind == "gate":
                carrying = carrying[:1]
            if all(name in points for name in carrying):
                raw.add(step.name)
                if step.kind in ("select", "gate"):
                    points.add(step.name)
            elif any(name in points for name in carrying):
                later.add(step.name)
        return raw, later

    def _insert_epsilon(self) -> None:
        """Give each sum its epsilon; a ReLU that alone reads a sum applies it as well, in one pass over memory."""
        readers = Counter(name for step in self.steps.values() for name in step.inputs)
        for step in self.steps.values():
            if step.kind == "relu":
                made = self.steps[step.inputs[0]]
                alone = readers[made.name] == 1
                if alone:
                    step.epsilon, made.epsilon = made.epsilon, 0.0
                # What a linear layer gives is not needed to differentiate it; stems are where gradients are asked for.
                in_place = alone and made.kind == "linear" and not made.keeps_output and made.name not in self.stems
                step.run = _rectified(step.epsilon, in_place)
        for step in self.steps.values():
            if step.kind != "relu" and step.epsilon > 0:
                step.run = _then_damped(step.run, step.epsilon)


def spread_over_field(relevance: Tensor, arguments: list[Tensor], stem: nn.Conv2d, stabiliser: float) -> Tensor:
    """Flat rule: share the relevance (B, H', W') of each stem output evenly among the inputs of its receptive field.

    Channels are already summed, and all input channels get the same: a convolution of ones with one channel does both
    the counting and, transposed, the spreading.
    """
    size = arguments[0].shape[-2:]
    channels = stem.in_channels // stem.groups
    ones = relevance.new_ones(1, 1, *stem.kernel_size)
    placement = {"stride": stem.stride, "padding": stem.padding, "dilation": stem.dilation}
    count = channels * F.conv2d(relevance.new_ones(1, 1, *size), ones, **placement)
    share = channels * relevance[:, None] / (count + stabiliser)
    return torch.nn.grad.conv2d_input((len(relevance), 1, *size), ones, share, **placement)[:, 0]


def spread_over_points(relevance: Tensor, arguments: list[Tensor]) -> Tensor:
    """Flat rule on points: all of the relevance goes to the point that a stem output was computed from.

    That is (B, N) itself for a layer on all points. For one on neighbourhoods it is (B, S, K), and a neighbour gets
    what all centroids that saw it have for it.
    """
    if relevance.ndim == 2:
        return relevance
    points, _, index = arguments
    return relevance.new_zeros(points.shape[:2]).scatter_add_(1, index.flatten(1), relevance.flatten(1))


def _operation(node: fx.Node, kind: str, modules: dict[str, nn.Module]) -> Callable[..., Tensor]:
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


def _bind(module: nn.Module) -> Callable[..., Tensor]:
    """The computation of a linear layer as a function of its inputs, weight and bias."""
    if hasattr(module, "compute"):
        return module.compute
    if type(module) is nn.Linear:
        return F.linear
    if module.padding_mode != "zeros":
        raise _refusal(f"a convolution with padding mode {module.padding_mode!r} has no rule")
    return partial(
        F.conv2d, stride=module.stride, padding=module.padding, dilation=module.dilation, groups=module.groups
    )


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


def _rectified(epsilon: float, in_place: bool) -> Callable[..., Tensor]:
    return lambda x, dtype: rules.rectified(x, epsilon, in_place)


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

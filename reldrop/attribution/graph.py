"""A network as the list of steps that relevance propagation needs: traced once, then run without touching the model.

Tracing (torch.fx) shows what hooks on modules cannot see: which sums are residual sums, which batch norm belongs to
which convolution, and every functional operation. Whatever has no rule here is refused by name.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx, nn

from reldrop.attribution import rules
from reldrop.attribution.kinds import OPAQUE_FUNCTIONS, layer_kind, node_kind
from reldrop.attribution.stems import find_stems
from reldrop.attribution.steps import Step, describe, evaluation_mode, linear_map, merged, operation, refusal
from reldrop.utils.errors import ReldropError, first_line


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        return layer_kind(m) is not None or super().is_leaf_module(m, qualified_name)


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

    Args:
        model: takes images (B, C, H, W) or points (B, N, C), gives logits (B, K).
        epsilon: of the Epsilon rule, >= 0.
        conv_rule: rule of the convolutions behind the stem, "epsilon" or "zplus".
        stabilizer: epsilon of all other sums.
        attention: "attnlrp" or "cplrp", see `rules.attention`.

    Raises:
        ReldropError: if the network contains anything without a rule; the message names it.
    """

    def __init__(self, model: nn.Module, epsilon: float, conv_rule: str, stabilizer: float, attention: str) -> None:
        self.epsilon, self.conv_rule, self.stabilizer = epsilon, conv_rule, stabilizer
        self.shares = rules.ATTENTION[attention]
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
        self.stems = find_stems(self.steps, self.input, type(model).__name__, stabilizer)
        if conv_rule == "zplus" and self.stems.on_points:
            raise ReldropError(
                "conv_rule=zplus is a rule for convolutions, and this network has none; set conv_rule=epsilon"
            )
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
        if self.stems.bypassed or not from_stem:
            x.requires_grad_()
            sources.append(Source(x, lambda relevance: relevance))
        values = {self.input: x}
        for step in self.steps.values():
            arguments = [values[name] for name in step.inputs]
            if step.name not in self.stems.spread:
                values[step.name] = step.run(*arguments, dtype)
            elif from_stem:
                with torch.no_grad():
                    value = step.run(*arguments, dtype)
                values[step.name] = value.requires_grad_()
                sources.append(Source(value, partial(self.stems.spread[step.name], arguments=arguments)))
            else:
                values[step.name] = rules.epsilon_identity(step.run(*arguments, dtype), self.stem_epsilon)
            for name in self._release[step.name]:
                values.pop(name, None)
        return values[self.output], sources

    # ---- building -------------------------------------------------------------------------------------------------

    def _refuse_unknown_layers(self) -> None:
        """Name the layer without a rule, where tracing could only name an operation inside it."""
        for name, module in self._modules.items():
            library = type(module).__module__.split(".")[0]
            if library in ("torch", "timm") and not list(module.children()) and layer_kind(module) is None:
                raise refusal(f"module {name} ({type(module).__name__}) has no rule")

    def _trace(self, model: nn.Module) -> list[fx.Node]:
        try:
            with evaluation_mode(model):
                optional = inspect.signature(model.forward).parameters.values()
                defaults = {option.name: option.default for option in optional if option.default is not option.empty}
                nodes = list(_Tracer(autowrap_functions=OPAQUE_FUNCTIONS).trace(model, defaults).nodes)
        except Exception as error:  # fx raises many types; all mean the same to the user
            raise refusal(f"{type(model).__name__} cannot be traced ({first_line(error)})") from error
        read = {nodes[-1]}  # what the output depends on; other nodes check shapes
        for node in reversed(nodes):
            if node in read:
                read.update(node.all_input_nodes)
        return [node for node in nodes if node in read]

    def _add(self, node: fx.Node) -> None:
        kind = node_kind(node, self._modules)
        where = describe(node, self._modules)
        inputs = tuple(self._resolve(value.name) for value in node.all_input_nodes)
        if inputs and all(name in self.steps and self.steps[name].kind == "choice" for name in inputs):
            kind = "choice"  # made of nothing but constants and decisions
        if kind is None:
            raise refusal(f"{where} has no rule")
        if kind == "batch_norm":
            raise refusal(f"{where} does not follow a convolution or linear layer it could be merged into")
        if kind == "add" and (len(inputs) != 2 or node.kwargs):
            raise refusal(f"{where} is not a plain sum of two branches")
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
                operation(node, kind, self._modules, self.shares),
                epsilon=self.stabilizer if kind in ("add", "average") else 0.0,
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
                raise refusal(f"{describe(reader, self._modules)} keeps no running statistics")
        if kind == "batch_norm":
            self._alias[reader.name] = node.name
        compute = linear_map(module)
        epsilon = self.epsilon
        behind = any(step.kind == "linear" for step in self.steps.values())
        zplus = self.conv_rule == "zplus" and behind and type(layer) is nn.Conv2d  # not the stem, not the classifier
        if zplus:
            nonnegative = self.steps[inputs[0]].nonnegative
            compute = partial(rules.zplus, linear=compute, nonnegative=nonnegative, epsilon=self.stabilizer)
            epsilon = 0.0

        def run(*values: Tensor | torch.dtype) -> Tensor:
            *arguments, dtype = values
            precision = torch.promote_types(arguments[0].dtype, dtype) if module is not layer else dtype
            moved = (x.to(precision) if x.is_floating_point() else x for x in arguments)
            return compute(*moved, *merged(layer, norm, precision)).to(dtype)

        self.steps[node.name] = Step(node.name, "linear", inputs, run, layers, epsilon, keeps_output=zplus)

    def _add_norm_max(self, node: fx.Node, inputs: tuple[str, ...]) -> None:
        """The maximum of what a linear layer with the norm merged into it gives; then ReLU, which now has less to do."""
        made = self.steps.get(inputs[0])
        module = self._modules[node.target]
        if made is None or node.target not in made.layers:
            raise refusal(f"{describe(node, self._modules)} does not follow a linear layer it could be merged into")
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
            raise refusal(f"the network returns a {type(node.args[0]).__name__}, not one tensor of logits")
        self.output = self._resolve(node.args[0].name)
        # The division by the last sum happens where the backward pass starts, see GradientLRP.
        self.output_epsilon = self.steps[self.output].epsilon
        self.steps[self.output].epsilon = 0.0

    def _insert_epsilon(self) -> None:
        """Give each sum its epsilon; a ReLU that alone reads a sum applies it as well, in one pass over memory.

        That of the stems is kept for `run`, where it depends on the rule of the stem.
        """
        stems = [self.steps[name] for name in self.stems.spread]
        self.stem_epsilon = stems[0].epsilon
        for step in stems:
            step.epsilon = 0.0
        readers = Counter(name for step in self.steps.values() for name in step.inputs)
        for step in self.steps.values():
            if step.kind == "relu":
                made = self.steps[step.inputs[0]]
                alone = readers[made.name] == 1
                if alone:
                    step.epsilon, made.epsilon = made.epsilon, 0.0
                # What a linear layer gives is not needed to differentiate it; stems are where gradients are asked for.
                in_place = alone and made.kind == "linear" and not made.keeps_output and made not in stems
                step.run = _rectified(step.epsilon, in_place)
        for step in self.steps.values():
            if step.kind != "relu" and step.epsilon > 0:
                step.run = _then_damped(step.run, step.epsilon)


def _then_damped(run: Callable[..., Tensor], epsilon: float) -> Callable[..., Tensor]:
    return lambda *values: rules.epsilon_identity(run(*values), epsilon)


def _rectified(epsilon: float, in_place: bool) -> Callable[..., Tensor]:
    return lambda x, dtype: rules.epsilon_relu(x, epsilon, in_place)

"""The default attribution: LRP as a modified gradient, in one forward and one backward pass of the network itself."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from reldrop.attribution.base import Attribution
from reldrop.attribution.compiled import Graphs
from reldrop.attribution.evaluation import bare, evaluation_mode, logits_of, no_checkpointing, outside_inference_mode
from reldrop.attribution.forms import stabilize
from reldrop.attribution.forward import Diverged, Forward
from reldrop.attribution.layers import as_map, choose, enlarged, reduced, takes
from reldrop.attribution.plan import Plan, made_for
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.tensors import channel_axis, positions
from reldrop.utils.types import NonNegative, OpenFraction, PositiveFraction, checked

# Shares of the relevance of softmax(q k') v that q, k and v get. Each product gives half to each factor; what the values
# do not get goes through the softmax to queries and keys, and half of that to either.
ATTENTION = {"attnlrp": (0.25, 0.25, 0.5), "cplrp": (0.0, 0.0, 1.0)}


@checked
class GradientLRP(Attribution):
    """LRP with Epsilon (or ZPlus, Gamma) behind a Flat stem, for any network that gives logits (B, K).

    While the network runs, each function of torch that reads a value with relevance is replaced by a form whose gradient is
    its rule (see `reldrop.attribution.rules` for the table); one backward pass follows. No hooks, no parameter gradients.
    Equals what zennit computes with `reldrop.attribution.canonizer.ResidualCanonizer`. The relevance of each sample starts
    as 1 at its class, so that its map sums to 1, up to what biases, epsilon and given values absorb.

    Divisors of norms, gates, and the factors y / x of smooth activations are taken as given; a product gives half to each
    factor; class tokens and embeddings of positions keep what reaches them (AttnLRP, Achtibat et al. 2024). On point clouds,
    relevance follows the winners of a maximum and the chosen neighbors; a difference of positions is a sum like any other;
    which points are sampled, and the matrices of T-Nets, are taken as given.

    Args:
        epsilon: of the Epsilon rule on convolutions and linear layers (with their batch norms), >= 0; 1e-3 in the release.
        conv_rule: "epsilon", "zplus" or "gamma", of the convolutions behind the stem.
        input_rule: rule of the stems, the first linear maps. "flat" spreads relevance evenly over what they read, which on
            point clouds is one point; "wsquare" by squared weights; "box" takes `low` and `high` as bounds of the input
            (Montavon et al. 2017); "epsilon" goes on to the values. (The relevance of coordinates depends on where the
            origin is, and a point there has none.)
        stabilizer: epsilon of all other sums (residual, average pool, stems, ZPlus, Gamma), >= 0; 1e-6 in zennit.
        attention: "attnlrp" (Achtibat et al. 2024) splits relevance between values, queries and keys; "cplrp" (Ali et al.
            2022) hands all of it to the values.
        gamma: of the Gamma rule, >= 0.
        low, high: bounds of normalized inputs, of the rule "box".
        compile: whether to capture the attribution of each network and shape of inputs as one graph, and to compile it; worth
            it for long trainings of networks with many small operations. Gives the same maps up to rounding.
        start: where and as what relevance starts: "one" at the logit of the class (the paper), the "logit" itself, or one
            behind a "log_softmax" (the release on point clouds).
        resolution: what the sides of images are multiplied by before the attribution, in (0, 1], or "auto": a half where
            both have at least 64 pixels, else 1. The map is enlarged again. For networks that take images of any size.
        until: where the backward pass ends, on images: the name of a module, a share of the depth in (0, 1), or "auto". The
            relevance of its output is summed over channels and enlarged. See `reldrop.attribution.layers.choose`.
        precision: "bf16" for the attribution alone; None for that of what surrounds it.

    Raises:
        ReldropError: a setting is out of range, a function of the network has no rule, or its relevance cannot be right.
    """

    conserves = True

    def __init__(
        self,
        epsilon: NonNegative = 1e-3,
        conv_rule: Literal["epsilon", "zplus", "gamma"] = "epsilon",
        input_rule: Literal["flat", "epsilon", "wsquare", "box"] = "flat",
        stabilizer: NonNegative = 1e-6,
        attention: Literal["attnlrp", "cplrp"] = "attnlrp",
        gamma: NonNegative = 0.25,
        low: float = -3.0,
        high: float = 3.0,
        start: Literal["one", "logit", "log_softmax"] = "one",
        compile: bool = False,
        resolution: PositiveFraction | Literal["auto"] = 1.0,
        until: OpenFraction | str | None = None,
        precision: Literal["bf16"] | None = None,
    ) -> None:
        if low >= high:
            raise ReldropError(f"low={low} must be below high={high}; they are the bounds of inputs")
        self.epsilon, self.conv_rule, self.input_rule, self.stabilizer = epsilon, conv_rule, input_rule, stabilizer
        self.gamma, self.low, self.high, self.start = gamma, low, high, start
        self.shares, self.compile = ATTENTION[attention], compile
        self.resolution, self.until, self.precision = resolution, until, precision
        self._resizable: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
        self._plans: WeakKeyDictionary[nn.Module, Plan] = WeakKeyDictionary()
        self._graphs: WeakKeyDictionary[nn.Module, Graphs] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, object]:
        """A copy makes plans and graphs of its own."""
        return {key: value for key, value in vars(self).items() if not isinstance(value, WeakKeyDictionary)}

    def __setstate__(self, state: dict[str, object]) -> None:
        own = {name: WeakKeyDictionary() for name in ("_plans", "_graphs", "_resizable")}
        vars(self).update(state, **own)

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance, float32 or finer, of `inputs` for `targets`.

        It is (B, H, W) for images (B, C, H, W) and (B, N) for point clouds (B, N, C), coordinates first. Targets are classes
        (B,), or probabilities (B, K), from which relevance starts in proportion. The model is only read: its parameters,
        gradients, buffers and training flags stay, whatever mode it is in. Runs in the precision of the surrounding
        autocast. `generator` is not needed.

        Raises:
            ReldropError: as for the class, or a class is out of range.
        """
        model = bare(model)
        cast = torch.autocast(inputs.device.type, torch.bfloat16) if self.precision else contextlib.nullcontext()
        with cast:
            shown = self._shown(model, inputs)
            if self.compile:
                maps = self._graphs.setdefault(model, Graphs())(self, model, shown, targets)
            else:
                maps = self.eager(model, shown, targets)
        return enlarged(maps, positions(inputs)[1:])

    @outside_inference_mode()
    def eager(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the map of what the network is shown, at the layer `until`, without a compiled graph."""
        probe, logits, forward = self.forward(model, inputs)
        start = self._start(logits.detach(), targets)
        weights = start / stabilize(logits.detach().to(start.dtype), forward.plan.start)
        if not forward.plan.start:
            weights = torch.where(start == 0, 0, weights)
        # The size of each sample's factor comes last, and half precision, which has little room below 1, is moved up.
        largest = torch.linalg.vector_norm(weights, torch.inf, 1, keepdim=True).clamp_(
            min=torch.finfo(weights.dtype).tiny
        )
        weights, scale = weights / largest, 1024.0
        if logits.dtype == torch.float16:
            weights, largest = weights * scale, largest / scale
        with torch.autocast(inputs.device.type, enabled=False):
            (relevance,) = torch.autograd.grad(logits, forward.at, weights.to(logits.dtype))
        if forward.at is probe:
            relevance = relevance.sum(channel_axis(inputs))
        else:  # behind the stem, relevance is gradient times value
            relevance = as_map(relevance.to(largest.dtype) * forward.at.detach(), forward.plan.size)
        return relevance * largest.view(-1, *[1] * (relevance.ndim - 1))

    def forward(self, model: nn.Module, inputs: Tensor, audit: bool = False) -> tuple[Tensor, Tensor, Forward]:
        """Run `model` under the rules, by its plan, which is made, or made anew, if need be.

        Returns:
            The probe, the logits as a function of it, and the pass.
        """
        model = bare(model)
        if not inputs.is_floating_point() or inputs.ndim not in (3, 4):
            raise ReldropError(
                f"inputs {tuple(inputs.shape)} of type {inputs.dtype} are no images (B, C, H, W), nor points (B, N, C)"
            )
        device, half = inputs.device.type, inputs.dtype in (torch.float16, torch.bfloat16)
        enabled = half or torch.is_autocast_enabled(device)
        dtype = inputs.dtype if half else torch.get_autocast_dtype(device) if enabled else None
        # Weights cast here must not be found again in training, so the cache of autocast stays out of it.
        cast = torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)
        with cast, evaluation_mode(model), no_checkpointing():
            plan = self._plans.get(model)
            if plan is None or plan.made_for != made_for(model):  # it may have been moved, or made double
                plan = self._recorded(model, inputs[:1], True)
            for fold in (None, True, False):  # as it is; recorded on this batch; without folding
                if fold is not None:
                    plan = self._recorded(model, inputs, fold)
                with contextlib.suppress(Diverged), _kept_random(plan.random):
                    result = self._run(model, inputs, plan, audit)
                    self._plans[model] = plan
                    return result
        raise ReldropError(
            f"attribution=gradient cannot follow {type(model).__name__}: its calls differ from pass to pass"
        )

    def plan(self, model: nn.Module) -> Plan:
        """Return the plan by which `model` was last run.

        Raises:
            KeyError: it was not run yet.
        """
        return self._plans[bare(model)]

    def _start(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Relevance (B, K) at the logits."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        if targets.ndim == 2:
            start = targets.to(logits.device, wide)
        else:
            try:  # no look at the targets, for which a GPU would have to be waited for
                start = torch.zeros_like(logits, dtype=wide).scatter_(1, targets[:, None], 1.0)
            except (RuntimeError, IndexError) as error:
                raise ReldropError(
                    f"targets must be classes from 0 to {logits.shape[1] - 1}, int64 (B,): {first_line(error)}"
                ) from error
        if self.start == "logit":
            return start * logits
        return start - start.sum(1, keepdim=True) * logits.to(wide).softmax(1) if self.start == "log_softmax" else start

    def _shown(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Return the inputs as the network is shown them: smaller, if it takes such."""
        smaller = reduced(inputs, self.resolution)
        if smaller is not inputs and model not in self._resizable:
            self._resizable[model] = takes(model, inputs, smaller)
        return smaller if smaller is not inputs and self._resizable[model] else inputs

    def _recorded(self, model: nn.Module, inputs: Tensor, fold: bool) -> Plan:
        """Record a plan; refuse a network whose logits under the rules are not its own."""
        with _kept_random(True), torch.no_grad():
            expected = logits_of(model(inputs.clone()))
        if not expected.isfinite().all():
            raise ReldropError(f"the logits of {type(model).__name__} are not finite, nor is its relevance")
        with _kept_random(True):
            _, logits, forward = self._run(model, inputs, None, False)
        loose = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 5e-2
        if not torch.allclose(logits, expected, rtol=10 * loose, atol=loose * float(expected.abs().max())):
            raise ReldropError(
                f"attribution=gradient does not reproduce the output of {type(model).__name__}: it writes into what it reads "
                "in a way that the rules do not see. Choose attribution=input_gradient as a control."
            )
        forward.plan.settle(forward.maker(logits), self, fold)
        forward.plan.made_for = made_for(model)
        if self.until is not None:
            self._end_at_layer(forward, inputs)
        if self.conv_rule != "epsilon" and not any(call.conv_rule for call in forward.plan.calls):
            raise ReldropError(
                f"conv_rule={self.conv_rule} is a rule for convolutions behind the first, and {type(model).__name__} has "
                "none; set conv_rule=epsilon"
            )
        return forward.plan

    def _end_at_layer(self, forward: Forward, inputs: Tensor) -> None:
        if inputs.ndim != 4:
            raise ReldropError(f"attribution.until={self.until} is for images; set it to null")
        layer = choose(forward, self.until, (inputs.shape[2], inputs.shape[3]))
        if layer is not None:
            layer.call.kept, forward.plan.size = True, layer.size

    def _run(self, model: nn.Module, inputs: Tensor, plan: Plan | None, audit: bool) -> tuple[Tensor, Tensor, Forward]:
        # Relevance of half precision inputs is added up in float32.
        inputs = inputs.clone() if inputs.is_inference() else inputs.detach()
        probe = inputs.to(torch.promote_types(inputs.dtype, torch.float32)).requires_grad_()
        forward = Forward(probe, plan, self, audit, model)
        no_recomputing = torch.autograd.graph.disable_saved_tensors_hooks(
            "attribution=gradient cannot follow a network that computes values again in its backward pass"
        )
        try:
            with _modules_followed(forward), torch.enable_grad(), no_recomputing, forward:
                logits = logits_of(model(probe))
        except ReldropError as error:
            where = f" in module {forward.modules[-1]}" if forward.modules else ""
            raise ReldropError(
                f"attribution=gradient cannot propagate relevance through {type(model).__name__}{where}: {error}"
            ) from error
        logits = forward.current(logits)
        if not forward.carries(logits) or (forward.recording and forward.maker(logits) is None):
            raise ReldropError(
                f"attribution=gradient finds no relevance in the output of {type(model).__name__}: it is made of values that "
                "the rules take as given, or that they do not see"
            )
        if plan is not None and forward.index != len(plan.calls):
            raise Diverged
        return probe, logits, forward


def _kept_random(needed: bool) -> contextlib.AbstractContextManager:
    return torch.random.fork_rng() if needed else contextlib.nullcontext()


@contextlib.contextmanager
def _modules_followed(forward: Forward) -> Iterator[None]:
    """Keep the names of the modules under way in `forward`, where they are wanted."""
    if not forward.names:
        yield
        return
    thread = threading.get_ident()  # hooks are called in all threads

    def enter(forward: Forward, module: nn.Module, args: tuple) -> None:
        if threading.get_ident() != thread:
            return
        forward.modules.append(forward.names.get(id(module), forward.modules[-1] if forward.modules else ""))

    def leave(forward: Forward, module: nn.Module, args: tuple, output: object) -> None:
        if threading.get_ident() != thread:
            return
        name = forward.modules.pop()
        wanted = forward.recording or (forward.audit and "." not in name)
        if wanted and name and isinstance(output, Tensor):
            forward.outputs.pop(name, None)  # it may be called again
            forward.outputs[name] = output

    handles = (
        global_hooks.register_module_forward_pre_hook(partial(enter, forward)),
        global_hooks.register_module_forward_hook(partial(leave, forward)),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

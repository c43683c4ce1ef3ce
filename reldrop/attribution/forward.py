"""A network's own forward pass, with each function of torch that reads a value with relevance replaced by its rule."""

import math
import types
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reldrop.attribution import forms, rules
from reldrop.attribution.arguments import detached, mapped, tensors
from reldrop.attribution.plan import Call, Norm, Plan, folded
from reldrop.attribution.recurrent import RECURRENT, unrolled
from reldrop.attribution.stems import JOINS, PLACES, SCALES, stem
from reldrop.utils.errors import ReldropError


class Diverged(Exception):
    """The calls of this pass are not those of the plan."""


class Forward(TorchFunctionMode):
    """Active while a network runs on `probe`, a leaf; the gradient of what it returns to `probe` is then relevance.

    A value carries relevance if it is the probe or was computed from it by a rule. Calls without such values run as they
    are, without gradients; parameters never carry relevance.

    Args:
        probe: the input, which requires gradients.
        plan: of an earlier pass; None to record one.
        settings: the `GradientLRP`.
        audit: whether all that is added to values with relevance becomes a leaf in `leaves`, to see what it absorbs.
        model: the network, whose modules are named in messages and audits.

    Attributes:
        call: the call under way.
        leaves: (leaf, whether it was computed from the input, name of the module it was read in).
        modules: names of the modules under way, from the outermost.
        outputs: of an audit, what each child of the network returned; of a recording, what each module did.
        at: where relevance is read: the probe, or what the call makes at which the backward pass ends.
    """

    def __init__(self, probe: Tensor, plan: Plan | None, settings: Any, audit: bool, model: nn.Module) -> None:
        super().__init__()
        self.probe, self.settings, self.shares, self.audit = probe, settings, settings.shares, audit
        self.recording, self.plan, self.index = plan is None, plan or Plan(), 0
        wanted = self.recording or audit
        self.names = {id(module): name for name, module in model.named_modules()} if wanted else {}
        self._constants = {value.untyped_storage().data_ptr() for value in model.buffers()} if self.recording else set()
        self.weights = {} if plan is None else _weights(plan)
        self.leaves: list[tuple[Tensor, bool, str]] = []
        self.modules: list[str] = []
        self.outputs: dict[str, Tensor] = {}
        self.at = probe
        self._makers: dict[int, Call] = {}  # of a recording: the call that made a tensor
        self._kept: list[Tensor] = []  # of a recording or audit: all tensors, so that identities stay unique
        self._written: dict[int, tuple[Tensor, Tensor]] = {}  # what was written in place, with its new value
        self._pending: dict[int, Tensor] = {}  # what waits for a batch norm that is folded into it already
        self._raw: dict[int, tuple[Tensor, Tensor | None]] = {
            id(probe): (probe, None)
        }  # see stems; 0 where it is padding
        self._computed: set[int] = set()  # of an audit: what was computed from the input but passes no relevance

    # ---- what rules ask ---------------------------------------------------------------------------------------------

    def carries(self, value: Any) -> bool:
        """Whether `value` is a tensor that carries relevance."""
        return isinstance(value, Tensor) and value.requires_grad and (value.grad_fn is not None or value is self.probe)

    def given(self, value: Any) -> Any:
        """Return what is added to values with relevance, detached if it carries none; in an audit it counts what it absorbs."""
        if self.carries(value):
            return value
        if not self.audit:
            return detached(value)
        number = isinstance(value, int | float) and math.isfinite(value)
        if not (number or (isinstance(value, Tensor) and value.is_floating_point())):
            return value
        leaf = (
            torch.as_tensor(value, dtype=self.probe.dtype, device=self.probe.device).detach().clone().requires_grad_()
        )
        self.leaves.append((leaf, id(value) in self._computed, self.modules[-1] if self.modules else ""))
        return leaf

    def computed(self, out: Any) -> Any:
        """Return `out`; an audit remembers that it was computed from the input although it carries no relevance."""
        if self.audit:
            self._kept += tensors(out)
            self._computed.update(map(id, tensors(out)))
        return out

    def shared(self, factors: Any) -> Any:
        """Return the factors of a product, each with an equal part of the relevance."""
        count = sum(map(self.carries, tensors(factors)))
        return mapped(factors, lambda t: forms.scaled(t, 1 / count) if self.carries(t) else t.detach())

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the linear map under way, with the batch norm behind it folded in, if one is."""
        call = self.call
        if self.recording and weight.untyped_storage().data_ptr() in self._constants:
            call.sums = True  # a blur, an average
        elif self.recording:
            call.parameters = weight, bias
        elif call.fold:
            planned, kept = call.parameters, self.weights.get(id(call))
            if kept is None:  # some weights are computed anew in each pass
                return folded([(weight.detach(), detached(bias), call.fold.norm)])[0]
            if not (_same(weight, planned[0]) and _same(bias, planned[1])):
                raise Diverged
            return kept
        return weight.detach(), detached(bias)

    def await_norm(self, out: Tensor) -> None:
        """Note that the batch norm behind the linear map under way is part of `out`, if it is folded into it."""
        if self.call.fold:
            self._pending[id(out)] = out

    def is_folded(self, x: Tensor, norm: Norm) -> bool:
        """Whether the batch norm under way, of `x`, is part of the linear map before it already."""
        call = self.call
        if self.recording:
            call.norm = norm
        if call.folded and (self._pending.pop(id(x), None) is None or not all(map(_same, norm[:4], call.norm[:4]))):
            raise Diverged
        return call.folded

    # ---- the calls of the network -----------------------------------------------------------------------------------

    def __torch_function__(self, function: Callable, types_: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", str(function))
        if name == "__get__":  # x.T, x.data
            name = function.__self__.__name__
        if self.recording and name in rules.RANDOM:
            self.plan.random = True
        if name in rules.QUESTIONS:
            return function(*args, **kwargs)
        if self._written:
            args, kwargs = mapped((args, kwargs), self.current)
        read = args[:1] if name in rules.SHAPED_AS else (args, kwargs)
        reads = [t for t in tensors(read) if self.carries(t)] if torch.is_grad_enabled() else []
        if not reads:
            with torch.no_grad():
                out = function(*args, **kwargs)
            if self.audit and any(id(t) in self._computed for t in tensors((args, kwargs))):
                self.computed(out)
            return out
        plain = _out_of_place(name)
        if plain not in rules.RULES:
            return self._opened(function, name, args, kwargs)
        flagged = kwargs.get("inplace") or (plain in _MAY_WRITE and any(value is True for value in args))
        if plain == name and not flagged and name not in ("__setitem__", "copy_"):
            return self._called(function, name, args, kwargs, reads)
        return self._written_beside(function, name, plain, flagged, args, kwargs, reads)

    def current(self, value: Tensor) -> Tensor:
        """Return what was written into `value`, or itself."""
        return self._written.get(id(value), (value, value))[1]

    def _opened(self, function: Callable, name: str, args: tuple, kwargs: dict) -> Any:
        """A function without a rule: looked into if it is written in Python, a question if it gives no numbers, or refused."""
        if name in RECURRENT:
            with self:
                return unrolled(name, *args, **kwargs)
        if isinstance(function, types.FunctionType):
            with self:
                return _told_of_no_mode(function)(*args, **kwargs)
        out = function(*detached(args), **detached(kwargs))
        if any(t.is_floating_point() or t.is_complex() for t in tensors(out)):
            raise ReldropError(
                f"the function {name} has no rule; if one of those in reldrop.attribution.rules fits, give it that one: "
                f"rules.register({name!r}, rules.as_is)"
            )
        return out

    def _written_beside(self, function: Callable, name: str, plain: str, flagged: Any, args: tuple, kwargs: dict,
                        reads: list[Tensor]) -> Tensor:  # fmt: skip
        """Compute what is to be written in place beside it instead, for whatever reads its target later."""
        target = args[0]
        if flagged:
            args = tuple(value is not True and value for value in args)
            kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        elif hasattr(Tensor, plain) and name != "__setitem__":
            function = getattr(Tensor, plain)
        else:
            copy, write = target.clone(), function

            def function(_: Tensor, *rest: Any, **options: Any) -> Tensor:
                write(copy, *rest, **options)
                return copy

        out = self._called(function, plain, args, kwargs, reads)
        self._written[id(target)] = target, out.to(target.dtype)
        return self._written[id(target)][1]

    def _called(self, function: Callable, name: str, args: tuple, kwargs: dict, reads: list[Tensor]) -> Any:
        """The next call of the plan: recorded, or compared with the record; then done by its rule."""
        if self.recording:
            self.call = call = self._recorded(name, args, reads)
        else:
            if self.index >= len(self.plan.calls) or self.plan.calls[self.index].name != name:
                raise Diverged
            self.call = call = self.plan.calls[self.index]
            self.index += 1
            if self._pending and not (call.folded or call.passes) and any(id(t) in self._pending for t in reads):
                raise Diverged
        if any(id(t) in self._raw for t in reads):
            out = self._before_stem(function, name, args, kwargs)
        else:
            out = rules.RULES[name](self, function, *args, **kwargs)
        if call.passes and self._pending.pop(id(args[0]), None) is not None:
            self._pending[id(out)] = out
        if self.recording:
            if out is reads[0]:  # nothing happened: dropout, a flat value flattened
                call.passes = True
                call.makers[0] and call.makers[0].readers.remove(call)
            made = [t for t in tensors(out) if not any(t is read for read in reads)]
            if len(made) == 1 and made[0].ndim == 2:
                call.keeps_channels = bool(call.parameters) or made[0].shape[-1] == reads[0].shape[-1]
            self._note(call, made)
        if call.kept:
            self.at = out
        return out

    def _recorded(self, name: str, args: tuple, reads: list[Tensor]) -> Call:
        makers = [self._makers.get(id(t)) for t in reads]
        for t, maker in zip(reads, makers, strict=True):
            if maker is None and t is not self.probe:
                raise ReldropError(f"values are made unseen, by {t.grad_fn.name()}, which has no rule")
        call = Call(name, makers)
        call.sums = name in rules.AVERAGES or (name in rules.ADDS and len(tensors(args)) > 1)
        for maker in filter(None, makers):
            maker.readers.append(call)
        self.plan.calls.append(call)
        return call

    def _note(self, call: Call, made: list[Tensor]) -> None:
        self._makers.update((id(t), call) for t in made)
        self._kept += made

    def maker(self, value: Tensor) -> Call | None:
        """Return the recorded call that made `value`."""
        return self._makers.get(id(value))

    def reads_input(self, value: Tensor) -> bool:
        """Whether `value` is the input, or the input in other places, before any rule but that of the stem."""
        return id(value) in self._raw

    # ---- what reads the input itself --------------------------------------------------------------------------------

    def _before_stem(self, function: Callable, name: str, args: tuple, kwargs: dict) -> Any:
        """The rules for what reads the input itself, where gradients are relevance already; see `stems`."""
        carrying = [t for t in tensors((args, kwargs)) if self.carries(t)]
        if self.settings.input_rule != "epsilon" and all(id(t) in self._raw for t in carrying):
            x, real = self._raw[id(carrying[0])]
            if name in PLACES and x is args[0]:
                return self._moved(function, args, kwargs, x, real)
            if name in JOINS and all(self._raw[id(t)][1] is None for t in carrying):
                return self._still_raw(function(*detached(args), **detached(kwargs)), function(*args, **kwargs))
            if name in SCALES and len(carrying) == 1 and x is args[0]:
                with torch.no_grad():
                    y = function(*args, **kwargs)
                if y.shape == x.shape:
                    return self._still_raw(y, forms.with_gradient(x, y, lambda grad: grad), real)
            if name in rules.LINEAR and "transpose" not in name and x is args[0]:
                return self._stem(function, name, real, *args, **kwargs)

        def entered(t: Tensor) -> Tensor:  # anything else: from gradients to relevance
            if id(t) not in self._raw:
                return t
            value = t.detach()
            out = forms.with_gradient(t, value, lambda grad: grad * value)
            if self.recording:
                self._note(self.call, [out])
            return out

        args, kwargs = mapped((args, kwargs), entered)
        return rules.RULES[name](self, function, *args, **kwargs)

    def _moved(self, function: Callable, args: tuple, kwargs: dict, x: Tensor, real: Tensor | None) -> Any:
        out = function(*args, **kwargs)
        if real is None and "pad" in function.__name__:
            real = torch.ones_like(x)
        with torch.no_grad():
            reals = [None] * len(tensors(out))
            if real is not None:  # whatever value the padding has
                zeros = tensors(function(torch.zeros_like(real), *args[1:], **kwargs))
                reals = [
                    one - zero for one, zero in zip(tensors(function(real, *args[1:], **kwargs)), zeros, strict=True)
                ]
        self._raw |= {id(t): (t, r) for t, r in zip(tensors(out), reals, strict=True)}
        return out

    def _still_raw(self, value: Tensor, out: Tensor, real: Tensor | None = None) -> Tensor:
        self._raw[id(out)] = out, real
        return out

    def _stem(self, function: Callable, name: str, real: Tensor | None, input: Tensor, weight: Tensor, bias: Any = None,
              *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
        self.call.stem = True
        weight, bias = self.folded(weight, bias)
        pull = stem(name, function, input, real, args, kwargs, weight, self.settings)
        with torch.no_grad():
            z = function(input, weight, bias, *args, **kwargs)
        wide = torch.promote_types(z.dtype, torch.float32)
        out = forms.with_gradient(input, z, lambda grad: pull(z.to(wide) * grad.to(wide)))
        self.await_norm(out)
        return out


_MAY_WRITE = rules.ACTIVATIONS | {"relu", "leaky_relu", "threshold"}  # functions with `inplace` among their arguments


def _out_of_place(name: str) -> str:
    """The name of a function that writes in place without that."""
    if name.startswith("__i"):
        return "__" + name[3:]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _weights(plan: Plan) -> dict[int, tuple[Tensor, Tensor]]:
    """Fold the batch norms of a plan, as the weights are now; what is computed anew in each pass is left to it."""
    calls = [
        c for c in plan.calls if c.fold and (isinstance(c.parameters[0], nn.Parameter) or c.parameters[0].requires_grad)
    ]
    return (
        dict(zip(map(id, calls), folded([(*c.parameters, c.fold.norm) for c in calls]), strict=True)) if calls else {}
    )


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and a.data_ptr() == b.data_ptr() and a.shape == b.shape)


_ASKED = "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"
_copies: weakref.WeakKeyDictionary[Callable, Callable] = weakref.WeakKeyDictionary()


def _told_of_no_mode(function: types.FunctionType) -> Callable:
    """A Python function of torch for the mode to see into: the same code, told that no mode is active."""
    if function not in _copies:
        scope = {**function.__globals__, **dict.fromkeys(_ASKED, lambda *args: False)}
        copy = types.FunctionType(
            function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        _copies[function] = copy
    return _copies[function]

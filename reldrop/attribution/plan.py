"""What a first pass learns about a network: its calls, which batch norm belongs to which layer, where each epsilon goes."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from reldrop.attribution.rules import ACTIVATIONS, MOVES

Norm = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]  # mean, variance, weight, bias, eps of a batch norm
FOLDS = ("batch_norm", "norm_max")


@dataclass(eq=False)
class Call:
    """One call that reads relevance, as recorded, and what later passes do with it.

    Attributes:
        name: of the function.
        makers: the calls that made what it reads.
        readers: the calls that read what it makes.
        parameters: weight and bias of a linear map.
        norm: of a batch norm.
        stem: whether it is a first linear map, which has a rule of its own.
        sums: whether it adds values up, so that it needs a stabilizer.
        keeps_channels: whether it makes (M, C), of (..., C) if it is a move: what a batch norm behind a linear layer reads.
        epsilon: the epsilon of the sum that it makes, or, for an activation, of the one that it reads.
        in_place: whether a ReLU may overwrite what it reads.
        fold: the batch norm to fold into this linear map.
        folded: whether this batch norm is part of the linear map before it.
        passes: whether this call stands between the two, or changes nothing at all.
        conv_rule: whether this is a convolution with the rule `conv_rule`, not Epsilon.
        kept: whether relevance is read at what this call makes, and the backward pass ends there.
    """

    name: str
    makers: list["Call | None"]
    readers: list["Call"] = field(default_factory=list)
    parameters: tuple[Tensor, Tensor | None] | None = None
    norm: Norm | None = None
    stem: bool = False
    sums: bool = False
    keeps_channels: bool = False
    epsilon: float = 0.0
    in_place: bool = False
    fold: "Call | None" = None
    folded: bool = False
    passes: bool = False
    conv_rule: bool = False
    kept: bool = False


class Plan:
    """The calls of a pass, in order.

    Attributes:
        calls: all of them.
        random: whether the network draws random numbers in evaluation mode.
        start: epsilon of the division by the logit where relevance starts.
        made_for: types and devices of the network's parameters and buffers.
        size: (h, w) of the map at the call where the backward pass ends, if it ends before the input.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.random, self.start = False, 0.0
        self.made_for: frozenset[tuple[torch.dtype, torch.device]] = frozenset()
        self.size: tuple[int, int] = (0, 0)

    def settle(self, last: Call, settings: Any, fold: bool) -> None:
        """Decide, with all calls known, which batch norms to fold, and where each epsilon is applied.

        Args:
            last: the call that makes the logits.
            settings: the `GradientLRP`.
            fold: whether to fold batch norms at all.
        """
        for call in self.calls:
            learned = call.parameters is not None and not call.stem
            call.conv_rule = settings.conv_rule != "epsilon" and call.name.startswith("conv") and learned
            if learned and not call.conv_rule:
                call.epsilon = settings.epsilon
            elif call.sums:
                call.epsilon = settings.stabilizer
        if fold:
            self._fold()
        for call in self.calls:
            if call.name == "relu" or call.name in ACTIVATIONS:
                maker = _sole_maker(call, MOVES)
                if maker is not None and maker.name != "norm_max":
                    call.epsilon, maker.epsilon = maker.epsilon, 0.0
                    # What a linear map makes is not needed to differentiate it; stems and other rules keep theirs.
                    source = _sole_maker(maker, MOVES) if maker.folded else maker
                    call.in_place = bool(source.parameters) and not source.stem and not source.conv_rule
        self.start = settings.stabilizer
        if last.parameters or last.sums:
            self.start, last.epsilon = last.epsilon, 0.0

    def _fold(self) -> None:
        for call in self.calls:
            maker = _sole_maker(call, MOVES) if call.name in FOLDS else None
            if maker is None or not maker.parameters or "transpose" in maker.name:
                continue
            between = call.makers[0] if call.makers[0] is not maker else None
            rows = maker.name in ("linear", "grouped_linear")  # channels last, where batch norms have them second
            if between is not None and (between.makers[0] is not maker or not (rows and between.keeps_channels)):
                continue
            if rows and between is None and call.name == "batch_norm" and not maker.keeps_channels:
                continue
            maker.fold, call.folded = call, True
            call.epsilon, maker.epsilon = maker.epsilon, 0.0
            if between is not None:
                between.passes = True


def _sole_maker(call: Call, through: frozenset[str]) -> Call | None:
    """The call that made what only `call` reads, past those that move values, each read by the next alone."""
    maker = call.makers[0]
    while maker is not None and maker.readers == [call] and maker.name in through and len(maker.makers) == 1:
        maker, call = maker.makers[0], maker
    return maker if maker is not None and maker.readers == [call] else None


def made_for(model: nn.Module) -> frozenset[tuple[torch.dtype, torch.device]]:
    """Return types and devices of the parameters and buffers of a network, whose plan does not serve for others."""
    return frozenset((value.dtype, value.device) for value in chain(model.parameters(), model.buffers()))


@torch.no_grad()
def folded(folds: list[tuple[Tensor, Tensor | None, Norm]]) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each linear map, with the batch norm behind it folded in; all in a few operations."""
    weights, biases, norms = zip(*folds, strict=True)
    means, variances, gains, shifts, eps = zip(*norms, strict=True)
    scales = torch._foreach_add(variances, eps)
    torch._foreach_rsqrt_(scales)
    _where_given(torch._foreach_mul_, scales, gains)
    offsets = torch._foreach_neg(means)
    _where_given(torch._foreach_add_, offsets, biases)
    torch._foreach_mul_(offsets, scales)
    _where_given(torch._foreach_add_, offsets, shifts)
    rows = [scale.view(-1, *[1] * (weight.ndim - 1)) for scale, weight in zip(scales, weights, strict=True)]
    return list(zip(torch._foreach_mul(weights, rows), offsets, strict=True))


def _where_given(operation: Any, values: list[Tensor], others: tuple[Tensor | None, ...]) -> None:
    given = [i for i, other in enumerate(others) if other is not None]
    if given:
        operation([values[i] for i in given], [others[i] for i in given])

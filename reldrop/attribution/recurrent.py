"""LSTM, GRU and RNN written out step by step, for rules to see into: gates are given, signals carry (Arras et al. 2017)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.utils.errors import ReldropError

RECURRENT = frozenset(("lstm", "gru", "rnn_tanh", "rnn_relu"))


def unrolled(kind: str, x: Tensor, start: Any, weights: Any, has_bias: Any, layers: int, dropout: float, train: bool,
             both: bool, batch_first: bool = False) -> tuple[Tensor, ...]:  # fmt: skip
    """Return what the function of torch named `kind` returns for the same arguments."""
    sides = layers * (1 + both)
    if isinstance(has_bias, list | tuple) or len(weights) != sides * (4 if has_bias else 2):
        raise ReldropError(f"{kind} of packed sequences, or with projections, has no rule")
    per_side = len(weights) // sides
    x, ends = x.transpose(0, 1) if batch_first else x, []
    for layer in range(layers):
        outputs = []
        for side in range(layer * (1 + both), (layer + 1) * (1 + both)):
            h, c = (start[0][side], start[1][side]) if kind == "lstm" else (start[side], None)
            steps: dict[int, Tensor] = {}
            for t in range(len(x)) if side == layer * (1 + both) else reversed(range(len(x))):
                steps[t], c = _step(kind, x[t], h, c, *weights[side * per_side : (side + 1) * per_side])
                h = steps[t]
            outputs.append(torch.stack([steps[t] for t in range(len(x))]))
            ends.append((h, c))
        x = torch.cat(outputs, -1) if both else outputs[0]
    last = [torch.stack(values) for values in zip(*ends, strict=True) if values[0] is not None]
    return x.transpose(0, 1) if batch_first else x, *last


def _step(kind: str, x: Tensor, h: Tensor, c: Any, w: Tensor, u: Tensor, b: Any = None, d: Any = None) -> tuple:
    read, kept = F.linear(x, w, b), F.linear(h, u, d)
    if kind == "lstm":
        i, f, g, o = (read + kept).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if kind == "gru":
        (r, z, n), (r2, z2, n2) = read.chunk(3, -1), kept.chunk(3, -1)
        z = (z + z2).sigmoid()
        return (1 - z) * (n + (r + r2).sigmoid() * n2).tanh() + z * h, None
    return (read + kept).tanh() if kind == "rnn_tanh" else (read + kept).relu(), None

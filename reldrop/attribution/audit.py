"""Where relevance goes in a network: an exact account, for any weights, by which a network of one's own can be verified."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reldrop.attribution.evaluation import outside_inference_mode
from reldrop.attribution.gradient import GradientLRP
from reldrop.utils.errors import ReldropError


@dataclass(frozen=True)
class Block:
    """Relevance at one child module of a network, as a share of the logits.

    Attributes:
        name: of the module; "" for what happens between children.
        relevance: at its output; None if it gives no single tensor with relevance.
        constants: absorbed by biases, tokens, means of batch norms and other constants inside it.
        given: absorbed by values that were computed from the input, but are taken as given, such as gates.
    """

    name: str
    relevance: float | None
    constants: float
    given: float


@dataclass(frozen=True)
class Audit:
    """An account of relevance that starts as the logits: that of the input and all that is absorbed add up to 1.

    Attributes:
        relevance: of the input, as a share of the logits.
        blocks: in the order of the forward pass.
        negative_logits: how many of the logits are negative: with `start=one`, all signs of these maps are turned.
        concentration: share of the absolute relevance that the top 0.1 % of positions hold, in [0, 1].
    """

    relevance: float
    blocks: tuple[Block, ...]
    negative_logits: int
    concentration: float

    @property
    def absorbed(self) -> tuple[float, float]:
        """What constants, and what given values absorb in all."""
        return sum(block.constants for block in self.blocks), sum(block.given for block in self.blocks)

    @property
    def imbalance(self) -> float:
        """What is lost or made up: 0 up to rounding if the rules fit the network."""
        return 1 - self.relevance - sum(self.absorbed)

    def leak(self, tolerance: float) -> str | None:
        """Return the name of the block nearest to the output that loses or makes up relevance, if any does."""
        if abs(self.imbalance) <= tolerance:
            return None
        above, absorbed, last = 1.0, 0.0, ""
        for block in reversed(self.blocks):
            if block.relevance is not None and abs(above - absorbed - block.relevance) > tolerance:
                return last
            if block.relevance is not None:
                above, absorbed = block.relevance, 0.0
            absorbed, last = absorbed + block.constants + block.given, block.name
        return last

    def warnings(self) -> list[str]:
        """Return what a person should know before trusting maps of this network; nothing if all is well."""
        found = []
        if (leak := self.leak(1e-3)) is not None:
            found.append(
                f"relevance is not conserved: {self.imbalance:.3g} of the logit is lost or made up in {leak!r}"
            )
        if abs(self.absorbed[1]) > 0.1:
            worst = max(self.blocks, key=lambda block: abs(block.given))
            found.append(
                f"values taken as given absorb {self.absorbed[1]:.3g} of the logit, most of it in {worst.name!r}"
            )
        if self.concentration > 0.5:
            found.append(f"0.1 % of the positions hold {self.concentration:.0%} of the absolute relevance")
        return found

    def __str__(self) -> str:
        lines = [f"{'block':24}{'relevance':>12}{'constants':>12}{'given':>12}", f"{'logit':24}{1:12.4g}"]
        for block in reversed(self.blocks):
            relevance = "" if block.relevance is None else f"{block.relevance:.4g}"
            lines.append(f"{block.name or '(between)':24}{relevance:>12}{block.constants:12.4g}{block.given:12.4g}")
        lines.append(f"{'input':24}{self.relevance:12.4g}")
        lines.append(f"relevance of the input + absorbed - logit: {-self.imbalance:.2g}")
        if self.negative_logits:
            lines.append(f"negative logits: {self.negative_logits}, whose maps have their signs turned")
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings()])


@outside_inference_mode()
def check(
    model: nn.Module, inputs: Tensor, targets: Tensor | None = None, attribution: GradientLRP | None = None
) -> Audit:
    """Account for the relevance of `inputs` in `model`, by the rules of `attribution` without any epsilon, with CP-LRP.

    Without epsilon, and without the softmax, which absorbs, nothing is lost but what is named: the sum is exact for any
    weights. Computed in the precision of the model; use float64 to verify a new rule. print() it for a table.

    Args:
        model: a classifier.
        inputs: images (B, C, H, W), or points (B, N, C).
        targets: classes (B,); the likeliest by default.
        attribution: whose rules; `GradientLRP` by default.

    Raises:
        ReldropError: a function of the network has no rule, or all chosen logits are 0.
    """
    rules = GradientLRP(0.0, "epsilon", (attribution or GradientLRP()).input_rule, 0.0, "cplrp", start="logit")
    probe, logits, forward = rules.forward(model, inputs, audit=True)
    targets = logits.detach().argmax(1) if targets is None else targets
    chosen = logits.gather(1, targets[:, None])[:, 0]
    outputs = {name: forward.current(out) for name, out in forward.outputs.items()}
    outputs = {name: out for name, out in outputs.items() if forward.carries(out)}
    leaves = [leaf for leaf, _, _ in forward.leaves]
    reached = [probe, *leaves, *outputs.values()]
    # Each sample counts for the same, whatever the size and the sign of its logit; one of 0 has nothing to be shared.
    known = chosen.detach() != 0
    if not known.any():
        raise ReldropError("the logits of all samples are 0, so that there is no relevance to account for")
    share = (chosen / torch.where(known, chosen.detach(), 1)).sum() / known.sum()
    grads = torch.autograd.grad(share, reached, allow_unused=True)
    shares = [0.0 if grad is None else _product(value, grad) for value, grad in zip(reached, grads, strict=True)]
    measured = dict(zip(outputs, shares[1 + len(leaves) :], strict=True))
    names = list(dict.fromkeys([*forward.outputs, *(name.split(".")[0] for _, _, name in forward.leaves)]))
    absorbed = {name: [0.0, 0.0] for name in names}
    for (_, computed, name), share in zip(forward.leaves, shares[1:], strict=False):
        absorbed[name.split(".")[0]][computed] += share
    blocks = tuple(Block(name, measured.get(name), *absorbed[name]) for name in names)
    maps = grads[0].sum(1 if inputs.ndim == 4 else 2).abs().flatten(1)
    top = maps.topk(max(1, round(maps.shape[1] / 1000)), 1).values.sum(1) / maps.sum(1)
    return Audit(float(grads[0].sum()), blocks, int((chosen < 0).sum()), float(top.mean()))


def _product(value: Tensor, grad: Tensor) -> float:
    return float(torch.where(grad == 0, 0.0, value.detach() * grad).sum())  # masks hold -inf, where the gradient is 0

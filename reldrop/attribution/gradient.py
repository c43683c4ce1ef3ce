"""The default attribution: LRP of ReLU networks as a modified gradient, in one forward and one short backward pass."""

from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reldrop.attribution import rules
from reldrop.attribution.base import Attribution
from reldrop.attribution.graph import Graph
from reldrop.attribution.steps import evaluation_mode
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import NonNegative, checked


@checked
class GradientLRP(Attribution):
    """LRP with Epsilon (or ZPlus) behind a Flat stem; sums of residual branches are split in proportion.

    Equals what zennit computes with `reldrop.attribution.canonizer.ResidualCanonizer`, without hooks, without
    parameter gradients, and without a backward pass through the stem. The relevance of each image starts as 1 at its
    target class, so an image's map sums to the conservation ratio: 1, up to what biases and epsilon absorb.

    In vision transformers the rules are AttnLRP's (or CP-LRP's): standard deviations of layer norms and the factors of
    GELUs are taken as given, softmax keeps its gradient; class tokens and embeddings of positions keep what reaches them.

    On point clouds it covers PointNet and PointNet++: relevance follows the winners of a maximum and the chosen
    neighbors; a difference of positions is a sum like any other; which points are sampled, and the matrices of T-Nets,
    are taken as given.

    Args:
        epsilon: of the Epsilon rule on convolutions and linear layers (with their batch norms), >= 0; 1e-3 in the
            release.
        conv_rule: "epsilon", or "zplus" for the convolutions behind the stem.
        input_rule: "flat" spreads the relevance of a stem neuron evenly over its receptive field, which on point clouds is one
            point; "epsilon" goes on to the pixels or coordinates. (The relevance of coordinates depends on where the
            origin is, and a point there has none.)
        stabilizer: epsilon of all other sums (residual, average pool, Flat, ZPlus), >= 0; 1e-6 in zennit.
        attention: how relevance passes attention in transformers: "attnlrp" (Achtibat et al. 2024) splits it between
            values, queries and keys; "cplrp" (Ali et al. 2022) hands all of it to the values.

    Raises:
        ReldropError: if a network holds something these rules do not cover (a gate, a layer norm, an unknown
            activation).
    """

    conserves = True

    def __init__(
        self,
        epsilon: NonNegative = 1e-3,
        conv_rule: Literal["epsilon", "zplus"] = "epsilon",
        input_rule: Literal["flat", "epsilon"] = "flat",
        stabilizer: NonNegative = 1e-6,
        attention: Literal["attnlrp", "cplrp"] = "attnlrp",
    ) -> None:
        self.epsilon, self.conv_rule, self.input_rule, self.stabilizer = epsilon, conv_rule, input_rule, stabilizer
        self.attention = attention
        self._graphs: WeakKeyDictionary[nn.Module, Graph] = WeakKeyDictionary()

    def check(self, model: nn.Module, inputs: Tensor) -> None:
        """Refuse `model` if its relevance would be wrong; one of `inputs` serves to compare logits."""
        self._graph(model, inputs)

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance, float32 or finer, of `inputs` for the classes `targets` (B,).

        It is (B, H, W) for images (B, C, H, W) and (B, N) for point clouds (B, N, C), coordinates first. The model is
        only read: its parameters, gradients, buffers and training flags stay, whatever mode it is in.
        Runs in the precision of the surrounding autocast. `generator` is not needed.
        """
        graph = self._graph(model, inputs)
        dtype = _compute_dtype(inputs)
        # Half precision has little room below 1: move the gradient up, and the relevance down again.
        scale = 1024.0 if dtype == torch.float16 else 1.0
        with torch.autocast(inputs.device.type, enabled=False), torch.enable_grad():
            logits, sources = graph.run(inputs, dtype, from_stem=self.input_rule == "flat")
            one_hot = torch.zeros_like(logits).scatter_(1, targets[:, None], scale)
            grads = torch.autograd.grad(logits, [source.value for source in sources], one_hot)
        with torch.no_grad():
            wide, axis = _wide(dtype), -1 if graph.stems.on_points else 1
            parts = (
                source.spread((source.value * grad).sum(axis, dtype=wide))
                for source, grad in zip(sources, grads, strict=True)
            )
            # Relevance starts as 1 = z * g at the target's logit z. The factor 1 / z of each image is applied last.
            target_logit = logits.gather(1, targets[:, None])[:, 0].to(wide)
            start = 1 / (scale * rules.stabilize(target_logit, graph.output_epsilon))
            relevance = sum(parts)
            return relevance * start.view(-1, *[1] * (relevance.ndim - 1))

    def _graph(self, model: nn.Module, inputs: Tensor) -> Graph:
        graph = self._graphs.get(model)
        if graph is None or not graph.fits(model):
            graph = Graph(model, self.epsilon, self.conv_rule, self.stabilizer, self.attention)
            _verify(graph, model, inputs[:1])
            self._graphs[model] = graph
        return graph


def _compute_dtype(inputs: Tensor) -> torch.dtype:
    device = inputs.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _verify(graph: Graph, model: nn.Module, inputs: Tensor) -> None:
    """Refuse a network whose traced steps give other logits than the network itself (in-place tricks, control flow)."""
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False), evaluation_mode(model):
        expected = model(inputs)
        found, sources = graph.run(inputs, inputs.dtype, from_stem=True)
        if not torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max())):
            raise ReldropError(
                f"attribution=gradient does not reproduce the output of {type(model).__name__}: its forward pass depends "
                "on more than its layers. Choose attribution=zennit, or attribution=input_gradient as a control."
            )
        if graph.stems.on_points:
            maps = [source.spread(source.value.sum(-1)) for source in sources]
            if any(relevance.shape != inputs.shape[:2] for relevance in maps):
                raise ReldropError(
                    f"attribution=gradient cannot tell which points the first layers of {type(model).__name__} read; "
                    "choose attribution=input_gradient as a control"
                )

"""The attribution of a network as one graph: captured whole, compiled, and replayed with the weights as they are."""

from typing import Any

import torch
from torch import Tensor, nn

from reldrop.utils.errors import ReldropError, first_line


class Graphs:
    """The graphs of one network, for each shape of inputs and precision.

    A graph reads the parameters and buffers of the network where they are, so that it follows their values. If one of them is
    replaced or moved, it is captured again.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple, Any] = {}

    def __call__(self, attribution: Any, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the relevance that `attribution.eager` returns for the same arguments, up to rounding.

        Raises:
            ReldropError: the network decides by values, or draws random numbers, which a graph could not follow.
        """
        device = inputs.device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        tensors = [*model.parameters(), *model.buffers()]
        key = inputs.shape, inputs.dtype, inputs.device, targets.shape, cast, *(t.data_ptr() for t in tensors)
        if key not in self._graphs:
            self._graphs[key] = _captured(attribution, model, inputs, targets)
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return self._graphs[key](inputs, targets).clone()  # CUDA graphs write into the same memory each time


def _captured(attribution: Any, model: nn.Module, inputs: Tensor, targets: Tensor) -> Any:
    from torch.fx.experimental.proxy_tensor import make_fx

    attribution.eager(model, inputs, targets)  # makes the plan, and says what cannot be attributed
    if attribution.plan(model).random:
        raise ReldropError(
            f"attribution.compile=true cannot follow {type(model).__name__}, which draws random numbers; set it to false"
        )
    try:
        graph = make_fx(lambda x, y: attribution.eager(model, x, y))(inputs, targets)
    except RuntimeError as error:
        raise ReldropError(
            f"attribution.compile=true cannot capture {type(model).__name__}, set it to false: {first_line(error)}"
        ) from error
    return torch.compile(graph, mode="reduce-overhead" if inputs.is_cuda else None)

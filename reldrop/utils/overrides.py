"""Functions of ours that an attribution sees as one, like a function of torch."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function


def overridable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `TorchFunctionMode` see a call of `function`, instead of the functions of torch inside it."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = tuple(value for value in args if isinstance(value, Tensor))
        if has_torch_function(given):
            return handle_torch_function(call, given, *args, **kwargs)
        return function(*args, **kwargs)

    return call

"""Tensors among the arguments of a call."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def tensors(value: Any, found: list[Tensor] | None = None) -> list[Tensor]:
    """Return all tensors in `value`, in lists, tuples and dictionaries as well."""
    found = [] if found is None else found
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, list | tuple):
        for item in value:
            if item is not None and type(item) not in (int, bool, float):
                tensors(item, found)
    elif type(value) is dict:
        tensors(list(value.values()), found)
    return found


def mapped(value: Any, new: Callable[[Tensor], Any]) -> Any:
    """Return `value` with each tensor t in it replaced by new(t), in lists, tuples and dictionaries as well."""
    if isinstance(value, Tensor):
        return new(value)
    if type(value) in (list, tuple):
        return type(value)(mapped(item, new) for item in value)
    return {key: mapped(item, new) for key, item in value.items()} if type(value) is dict else value


def detached(value: Any) -> Any:
    """Return `value` with all tensors in it detached."""
    return mapped(value, Tensor.detach)

"""The networks that configurations name. Each is imported when it is asked for: timm takes seconds, and not all need it."""

from importlib import import_module
from typing import Any

_HOMES = {"point_network": "points", "resnet": "resnets", "vit": "vits"}

__all__ = ["point_network", "resnet", "vit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

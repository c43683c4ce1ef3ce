"""Nested mappings."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(tree: Any, sep: str = ".", lists: bool = False, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with the keys that lead to them, joined by `sep`.

    Args:
        tree: a mapping; an empty one inside it is a leaf.
        lists: whether lists are gone through as well, by index; else they are leaves.
    """
    for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        if value and (isinstance(value, Mapping) or (lists and isinstance(value, list))):
            yield from flatten(value, sep, lists, f"{prefix}{key}{sep}")
        else:
            yield f"{prefix}{key}", value


def numbers(tree: Any, sep: str = ".") -> dict[str, float]:
    """Return the numbers in nested mappings and lists by the keys and indices that lead to them, without true and false."""
    leaves = flatten(tree, sep, lists=True)
    return {key: value for key, value in leaves if isinstance(value, int | float) and not isinstance(value, bool)}

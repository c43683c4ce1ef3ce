"""Relevance-driven Input Dropout (RelDrop): occlude what a network finds relevant while it trains (arXiv 2505.21595)."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "__version__":  # looked up when asked for: a checkout that is not installed has none
        from importlib.metadata import version

        return version("reldrop")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

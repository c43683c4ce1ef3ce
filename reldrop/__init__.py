"""Relevance-driven Input Dropout (RelDrop): occlude what a network finds relevant while it trains (arXiv 2505.21595).

For a script of one's own: `reldrop.RelDrop`, `reldrop.relevance` and `reldrop.check`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Look names up when they are asked for: torch takes seconds, and a checkout that is not installed has no version."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reldrop")
    if name == "RelDrop":
        from reldrop.augmentation import RelDrop

        return RelDrop
    if name in ("check", "relevance"):
        from reldrop import attribution

        return getattr(attribution, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

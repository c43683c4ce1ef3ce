"""Relevance-driven Input Dropout (RelDrop): occlude what a network finds relevant while it trains (arXiv 2505.21595)."""

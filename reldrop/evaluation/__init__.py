"""Evaluation of trained networks: robustness to occlusion, zero-shot accuracy, comparison."""

"""Sweeps: many runs, here, side by side, or as jobs of SLURM."""

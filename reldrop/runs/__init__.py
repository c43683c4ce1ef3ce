"""Run folders: their identity, their files, who reads and writes them, and their mirror in Weights & Biases."""

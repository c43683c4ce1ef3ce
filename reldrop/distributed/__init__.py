"""Several processes: how they start, and which part of each batch a process takes."""

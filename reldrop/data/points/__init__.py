"""Point cloud data sets: files, sampling, cache, transforms."""

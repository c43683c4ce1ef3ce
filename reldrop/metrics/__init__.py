"""Metrics: numbers in, numbers out. They import nothing else of the package but distributed and utils."""

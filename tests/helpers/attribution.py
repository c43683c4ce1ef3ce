"""Attribution."""

import torch


def images(size: int = 32, count: int = 2, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=draws, dtype=dtype), torch.arange(count) + 1

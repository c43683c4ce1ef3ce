"""Transformers."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


def small(seed: int = 0, biases: bool = True, **options: Any) -> VisionTransformer:
    """A ViT of two blocks with random float64 weights."""
    torch.manual_seed(seed)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
    model = VisionTransformer(**{**sizes, **options}).double()
    for name, value in model.named_parameters():
        constant = name.endswith("bias") or name in ("cls_token", "pos_embed", "reg_token")
        if constant and not biases:
            nn.init.zeros_(value)
        elif constant or value.ndim > 1:
            nn.init.normal_(value, std=0.3 if constant else value.shape[-1] ** -0.5)
        else:
            nn.init.uniform_(value, 0.5, 1.5)
    return model


def images(count: int = 3, size: int = 16, channels: int = 3) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(3)
    return torch.randn(count, channels, size, size, generator=draws, dtype=torch.float64), torch.arange(count)

"""Networks."""

import timm
import torch
from torch import nn


def randomize(model: nn.Module, seed: int = 0, biases: bool = True) -> nn.Module:
    """Give all parameters and batch-norm statistics of a float64 copy of `model` random values, as after training."""
    draws = torch.Generator().manual_seed(seed)
    model = model.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=draws)
            module.running_var.uniform_(0.5, 2, generator=draws)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draws)
            nn.init.normal_(module.bias, std=0.5, generator=draws)
            if not biases:
                module.running_mean.zero_()
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05, generator=draws)
            nn.init.normal_(module.bias, std=0.1 if biases else 0.0, generator=draws)
    return model


def timm_model(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10, **options)

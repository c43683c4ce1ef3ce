"""Shared pieces of the tests."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each of the processes that share the machine
if "PYTEST_XDIST_WORKER" not in os.environ:  # in the process that starts the others, which inherit this
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # What libraries leave in the folder for temporary files goes when the tests are over.
    _temporary = tempfile.TemporaryDirectory(prefix="reldrop-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = _temporary.name

import pytest
import timm
import torch
from torch import nn

from reldrop.backbones import resnet


def randomise(model: nn.Module, seed: int = 0, biases: bool = True) -> nn.Module:
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


@pytest.fixture
def tiny() -> nn.Module:
    """A small ResNet in float32, in training mode."""
    torch.manual_seed(0)
    return resnet("resnet_tiny", num_classes=10, size=16)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 16, 16, generator=draws), torch.randint(10, (6,), generator=draws)


def timm_model(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10, **options)

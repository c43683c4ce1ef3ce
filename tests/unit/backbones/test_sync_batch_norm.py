"""Batch norm in several processes; two processes against one are in tests/integration/test_processes.py."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm as Function

from reldrop.backbones.sync_batch_norm import SyncBatchNorm
from reldrop.utils.errors import ReldropError


def test_the_function_of_torch_takes_what_it_is_given() -> None:
    names = list(inspect.signature(Function.forward).parameters)[1:]
    values = ["input", "weight", "bias", "running_mean", "running_var"]
    assert names == [*values, "eps", "momentum", "process_group", "world_size"]


def test_evaluation_mode_and_batches_that_are_not_shared_stay_as_they_are() -> None:
    model, plain = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    together = SyncBatchNorm(model)
    together.shared = False
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(model(x), plain(x))
    assert torch.equal(model.eval()(x), plain.eval()(x))
    assert torch.equal(model.running_var, plain.running_var)
    assert type(model) is nn.BatchNorm2d


def test_other_batch_norms_are_refused() -> None:
    with pytest.raises(ReldropError, match=r"1 is a BatchNorm3d .* set trainer.sync_batchnorm=false"):
        SyncBatchNorm(nn.Sequential(nn.ReLU(), nn.BatchNorm3d(2)))
    with pytest.raises(ReldropError, match="0 is a BatchNorm2d"):
        SyncBatchNorm(nn.Sequential(nn.BatchNorm2d(2, momentum=None)))

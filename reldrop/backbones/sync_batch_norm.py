"""Batch norm in several processes: by the statistics of the whole batch, or each by those of its shard."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction  # what torch.nn.SyncBatchNorm calls
from torch.nn.modules.batchnorm import _BatchNorm

from reldrop.backbones.point_layers import NormMax, PointNorm
from reldrop.utils.errors import ReldropError


class SyncBatchNorm:
    """Lets the batch norms of `model` take their statistics, in training, over the shards of all processes.

    Unlike torch's SyncBatchNorm, it also works on the CPU, and the modules keep their types, by which an attribution
    knows what they are.

    Attributes:
        shared: False while all processes have the same batch, each the whole of it.

    Raises:
        ReldropError: for a batch norm that does more than that.
    """

    def __init__(self, model: nn.Module) -> None:
        self.shared = True
        for name, module in model.named_modules():
            if isinstance(module, NormMax):
                module.plain = True  # its shortcut takes statistics of its own
            if isinstance(module, _BatchNorm):
                if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, PointNorm) or module.momentum is None:
                    raise ReldropError(
                        f"{name} is a {type(module).__name__} whose statistics several processes cannot share; set "
                        "trainer.sync_batchnorm=false"
                    )
                module.forward = partial(self._forward, module)

    def _forward(self, norm: _BatchNorm, x: Tensor) -> Tensor:
        if not (norm.training and self.shared):
            return type(norm).forward(norm, x)
        norm.num_batches_tracked.add_(1)
        flat = x.flatten(0, -2) if isinstance(norm, PointNorm) else x
        if not x.is_cuda:
            return _normalize(norm, flat).view_as(x)
        buffers = norm.running_mean, norm.running_var, norm.eps, norm.momentum
        group = dist.group.WORLD, dist.get_world_size()
        return SyncBatchNormFunction.apply(flat, norm.weight, norm.bias, *buffers, *group).view_as(x)


def _normalize(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return the batch norm of x (B, C, ...) of this process by mean and variance over all processes."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = (-1, *(1 for _ in x.shape[2:]))
    wide = x.to(norm.weight.dtype)
    count = wide.new_tensor([x.numel() // x.shape[1]])
    mean, count = _AllReduceSum.apply(torch.cat([wide.sum(axes), count])).split([x.shape[1], 1])
    mean, count = mean / count, count.detach()
    centered = wide - mean.view(shape)
    variance = _AllReduceSum.apply(centered.square().sum(axes)) / count
    norm.running_mean.lerp_(mean.detach(), norm.momentum)
    norm.running_var.lerp_((variance * count / (count - 1)).detach(), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return (centered * scale.view(shape) + norm.bias.view(shape)).to(x.dtype)


class _AllReduceSum(Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _AllReduceSum.forward(ctx, grad)


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Make the running statistics of batch norms the means of those of all processes."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    if not buffers:
        return
    flat = torch.cat(buffers)
    dist.all_reduce(flat)
    for buffer, mean in zip(buffers, (flat / dist.get_world_size()).split(list(map(len, buffers))), strict=True):
        buffer.copy_(mean)

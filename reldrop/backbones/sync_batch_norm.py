"""Batch norm in several processes: by the statistics of the whole batch, or each by those of its share."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from reldrop.backbones.point_layers import NormMax, PointNorm
from reldrop.utils.errors import ReldropError


class SyncBatchNorm:
    """Lets the batch norms of `model` take their statistics, in training, over the shares of all processes.

    Unlike torch's SyncBatchNorm, it also works on the CPU, and the modules keep their types, which say to an
    attribution what they are.

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
        buffers = norm.running_mean, norm.running_var
        return _SyncBatchNormFunction.apply(flat, norm.weight, norm.bias, *buffers, norm.momentum, norm.eps).view_as(x)


class _SyncBatchNormFunction(Function):
    """Batch norm of x (B, C, ...) of this process by mean and variance over all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        channels = x.shape[1]
        variance, mean = torch.var_mean(x.to(weight.dtype), _others(x), correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([x.numel() // channels])])
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own)
        means, variances, counts = torch.stack(gathered).split([channels, channels, 1], 1)
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * total / (total - 1), momentum)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), total)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, total = ctx.saved_tensors
        shape = (-1, *(1 for _ in x.shape[2:]))
        normalized = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        wide = grad.to(mean.dtype)
        own = torch.stack([wide.sum(_others(x)), (wide * normalized).sum(_others(x))])
        overall = own.clone()
        dist.all_reduce(overall)
        of_mean, of_variance = (overall / total).view(2, *shape)
        scale = (weight * inverse).view(shape)
        of_x = (scale * (wide - of_mean - normalized * of_variance)).to(x.dtype)
        return of_x, own[1].to(weight.dtype), own[0].to(weight.dtype), None, None, None, None


def _others(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


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

"""Layers and networks."""

import copy

import torch
from torch import Tensor, nn

from reldrop.backbones import point_network
from reldrop.backbones.pointnet2 import PointNet2
from tests.helpers.networks import randomize

NETWORKS = ["pointnet", "pointnet2_ssg", "pointnet2_msg"]


# Small enough for tests; two scales, as MSG has three.
SMALL = ((24, ((0.3, 8, (8, 8, 16)), (0.6, 16, (8, 8, 16)))), (8, ((0.8, 8, (16, 16, 32)),)))


def clouds(count: int = 3, size: int = 80, channels: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(count, size, channels, generator=draws, dtype=torch.float64)
    points[..., :3] *= torch.rand(count, size, 1, generator=draws) / points[..., :3].norm(dim=-1, keepdim=True)
    return points.to(dtype)


def small(channels: int = 6, biases: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return randomize(PointNet2(10, channels, SMALL, (0.4, 0.4)), biases=biases)


def named(name: str, channels: int = 6, biases: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return randomize(point_network(name, num_classes=10, channels=channels), biases=biases)


def make_plain(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "plain"):
            module.plain = True
    return twin

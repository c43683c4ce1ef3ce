"""PointNet++ as the common PyTorch implementation computes it, written plainly from its state dict."""

import torch
from torch import Tensor, nn

from reldrop.backbones.pointnet2 import MSG, SSG
from reldrop.utils.point_ops import ball_query, farthest_points, gather_points

State = dict[str, Tensor]


def random_state(with_scales: bool, channels: int, classes: int) -> State:
    """Return a state dict with its keys and shapes, of random weights."""
    torch.manual_seed(0)
    state: State = {}
    width = channels
    for name, (_, scales) in zip(("sa1", "sa2"), MSG if with_scales else SSG, strict=True):
        for s, (_, _, widths) in enumerate(scales):
            before = width
            for j, after in enumerate(widths):
                conv = f"{name}.conv_blocks.{s}.{j}" if with_scales else f"{name}.mlp_convs.{j}"
                norm = f"{name}.bn_blocks.{s}.{j}" if with_scales else f"{name}.mlp_bns.{j}"
                add(state, conv, norm, before, after, 2)
                before = after
        width = 3 + sum(widths[-1] for _, _, widths in scales)
    for j, after in enumerate((256, 512, 1024)):
        add(state, f"sa3.mlp_convs.{j}", f"sa3.mlp_bns.{j}", width, after, 2)
        width = after
    for j, after in enumerate((512, 256), 1):
        add(state, f"fc{j}", f"bn{j}", width, after, 0)
        width = after
    add(state, "fc3", "", width, classes, 0)
    return state


def add(state: State, linear: str, norm: str, before: int, after: int, axes: int) -> None:
    state[f"{linear}.weight"] = torch.randn(after, before, *[1] * axes) / before**0.5
    state[f"{linear}.bias"] = torch.randn(after) / 9
    if norm:
        layer = nn.BatchNorm1d(after)
        nn.init.normal_(layer.weight, 1, 0.2)
        nn.init.normal_(layer.bias, 0, 0.2)
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 1.5)
        state |= {f"{norm}.{key}": value.detach() for key, value in layer.state_dict().items()}


def logits(state: State, points: Tensor, with_scales: bool) -> Tensor:
    """Return logits (B, classes) of points (B, N, 3 or 6), in evaluation mode, sampled from the first point on."""

    def layer(x: Tensor, linear: str, norm: str) -> Tensor:
        x = x @ state[f"{linear}.weight"].flatten(1).T + state[f"{linear}.bias"]
        if norm:
            mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
            x = (x - mean) / (variance + 1e-5).sqrt() * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        return x.relu() if norm else x

    xyz, features = points[..., :3], points[..., 3:]
    for name, (count, scales) in zip(("sa1", "sa2"), MSG if with_scales else SSG, strict=True):
        centroids = gather_points(xyz, farthest_points(xyz, count))
        described = []
        for s, (radius, neighbors, _) in enumerate(scales):
            (index,) = ball_query(xyz, centroids, [radius], [neighbors])
            offsets, values = gather_points(xyz, index) - centroids[:, :, None], gather_points(features, index)
            x = torch.cat([values, offsets] if with_scales else [offsets, values], -1)
            for j in range(3):
                blocks = (f"{name}.conv_blocks.{s}.{j}", f"{name}.bn_blocks.{s}.{j}")
                x = layer(x, *(blocks if with_scales else (f"{name}.mlp_convs.{j}", f"{name}.mlp_bns.{j}")))
            described.append(x.max(2).values)
        xyz, features = centroids, torch.cat(described, -1)
    x = torch.cat([xyz, features], -1)
    for j in range(3):
        x = layer(x, f"sa3.mlp_convs.{j}", f"sa3.mlp_bns.{j}")
    x = x.max(1).values
    return layer(layer(layer(x, "fc1", "bn1"), "fc2", "bn2"), "fc3", "")

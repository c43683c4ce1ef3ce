"""Checkpoints of the common PyTorch implementation of PointNet++ (github.com/yanx27/Pointnet_Pointnet2_pytorch)."""

import re
from pathlib import Path

import torch
from torch import nn

from reldrop.backbones.pointnet2 import MSG, SSG, PointNet2
from reldrop.backbones.weights import State, load, read_state
from reldrop.utils.errors import ReldropError

POINTS = 1024  # of each cloud that its networks were trained on
# What its keys begin with, and the names that these layers have here: one for each layer of a scale.
SCALE_LINEAR, SCALE_NORM = ("first.linear", "middle.layers.0", "last"), ("first_norm", "middle.layers.1", "pool.norm")
ALL_LINEAR, ALL_NORM = ("sa3.layers.0", "sa3.layers.3", "last"), ("sa3.layers.1", "sa3.layers.4", "pool.norm")
HEAD_LINEAR, HEAD_NORM = ("head.0", "head.4", "head.8"), ("head.1", "head.5")
NAMES = [
    (r"(sa[12])\.conv_blocks\.(\d)\.(\d)", "{0}.scales.{1}.", SCALE_LINEAR),
    (r"(sa[12])\.bn_blocks\.(\d)\.(\d)", "{0}.scales.{1}.", SCALE_NORM),
    (r"(sa[12])\.mlp_convs\.(\d)", "{0}.scales.0.", SCALE_LINEAR),
    (r"(sa[12])\.mlp_bns\.(\d)", "{0}.scales.0.", SCALE_NORM),
    (r"sa3\.mlp_convs\.(\d)", "", ALL_LINEAR),
    (r"sa3\.mlp_bns\.(\d)", "", ALL_NORM),
    (r"fc([123])", "", ("", *HEAD_LINEAR)),
    (r"bn([12])", "", ("", *HEAD_NORM)),
]


def is_common(state: State) -> bool:
    """Whether a state dict is one of that implementation, by its keys."""
    return "fc3.weight" in state and any(key.startswith("sa1.") for key in state)


def translated(state: State) -> State:
    """Return its state dict with the names and shapes of `PointNet2`.

    Raises:
        ReldropError: a key is none of its classifiers, as of one for segmentation.
    """
    with_scales = "sa1.conv_blocks.0.0.weight" in state
    result = {}
    for key, value in state.items():
        layer, _, parameter = key.rpartition(".")
        name = _name(layer)
        if name is None:
            raise ReldropError(f"the weights have {key}, which no PointNet++ for classification has")
        value = value.flatten(1) if value.ndim == 4 else value  # of a convolution with kernels of one pixel
        if with_scales and name.endswith("first.linear") and parameter == "weight":
            value = torch.cat(
                [value[:, -3:], value[:, :-3]], 1
            )  # it has the coordinates last there, and first elsewhere
        result[f"{name}.{parameter}"] = value
    if "head.0.bias" not in result:  # of the authors' release of RelDrop
        result["head.0.bias"] = torch.zeros(len(result["head.0.weight"]))
    return result


def common_pointnet2(path: Path) -> tuple[nn.Module, int]:
    """Return the network of one of its checkpoints, in evaluation mode, and the channels of its points: 3, or 6 with normals.

    Raises:
        ReldropError: the file cannot be read, or is no checkpoint of a classifier of that implementation.
    """
    state = read_state(path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if not is_common(state):
        raise ReldropError(
            f"{path} is no checkpoint of a PointNet++ for classification of the common PyTorch implementation"
        )
    own = translated(state)
    with_scales = "sa1.scales.1.first.linear.weight" in own
    channels = own["sa1.scales.0.first.linear.weight"].shape[1]
    levels, dropout = (MSG, (0.4, 0.5)) if with_scales else (SSG, (0.4, 0.4))
    network = PointNet2(len(own["head.8.weight"]), channels, levels, dropout)
    return load(network, own, str(path), "PointNet++").eval(), channels


def _name(layer: str) -> str | None:
    """Return our name of one of its layers; None if it is none of a classifier."""
    for pattern, prefix, names in NAMES:
        if match := re.fullmatch(pattern, layer):
            *before, number = match.groups()
            return prefix.format(*before) + names[int(number)] if int(number) < len(names) else None
    return None

"""PointNet and PointNet++ by name."""

from typing import Literal

from torch import nn

from reldrop.backbones.common_pointnet2 import is_common, translated
from reldrop.backbones.pointnet import PointNet
from reldrop.backbones.pointnet2 import MSG, SSG, PointNet2
from reldrop.backbones.weights import start_from
from reldrop.utils.types import Count, checked

NETWORKS = {
    "pointnet": PointNet,
    "pointnet2_ssg": lambda classes, channels: PointNet2(classes, channels, SSG, dropout=(0.4, 0.4)),
    "pointnet2_msg": lambda classes, channels: PointNet2(classes, channels, MSG, dropout=(0.4, 0.5)),
}


@checked
def point_network(
    name: Literal["pointnet", "pointnet2_ssg", "pointnet2_msg"],
    *,
    num_classes: Count,
    channels: Count = 3,
    weights: str | None = None,
    reset_head: bool = True,
) -> nn.Module:
    """Return a network that takes point clouds (B, N, channels), coordinates first, to logits (B, num_classes).

    Args:
        name: pointnet, pointnet2_ssg or pointnet2_msg.
        weights: where to start: None (random) or a checkpoint file, of this project or of the common PyTorch PointNet++.
        reset_head: draw the last layer from N(0, 0.01) when starting from weights.

    Raises:
        ReldropError: for an unknown network, and for weights that cannot be read or do not fit.
    """
    network = NETWORKS[name](num_classes, channels)
    return start_from(
        network, weights, name, reset_head, translate=lambda state: translated(state) if is_common(state) else state
    )


point_network.kind = "points"  # what it takes, see reldrop.config.check_inputs

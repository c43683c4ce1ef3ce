"""PointNet for classification (Qi et al. 2017, https://arxiv.org/abs/1612.00593), in the widely used PyTorch variant."""

from typing import Any

import torch
from torch import Tensor, nn

from reldrop.backbones.point_layers import NormMax, PointNorm, SharedLayers
from reldrop.utils.overrides import overridable
from reldrop.utils.point_ops import align


class TransformNet(nn.Module):
    """T-Net: predicts a matrix for a cloud, the identity plus the output of a small PointNet.

    Args:
        size: of the points it reads and of the matrix.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.shared = SharedLayers(size, 64, 128)
        self.last = nn.Linear(128, 1024)
        self.pool = NormMax(1024)
        self.head = nn.Sequential(SharedLayers(1024, 512, 256), nn.Linear(256, size * size))

    def forward(self, points: Tensor) -> Tensor:
        """Return matrices (B, size, size) for points (B, N, size)."""
        offset = self.head(self.pool(self.last(self.shared(points)))).view(-1, self.size, self.size)
        return offset + torch.eye(self.size, device=points.device, dtype=offset.dtype)


@overridable
def predicted_matrix(points: Tensor, net: TransformNet) -> Tensor:
    """Return net(points): an attribution takes these matrices as given."""
    return net(points)


class PointNet(nn.Module):
    """Align, describe each point by itself, take the maximum over all, classify.

    Between 64 and 1024 channels it has one layer of 128, and not the further layers of 64 that the paper draws: this is
    the network whose accuracies are quoted for PyTorch. Coordinates are aligned; further channels, such as
    normals, are not.

    Args:
        channels: of a point: 3 coordinates, perhaps followed by a normal or other features.
        orthogonality: weight of the penalty that keeps the matrix of the features close to orthogonal, 0.001.
    """

    def __init__(self, num_classes: int, channels: int, orthogonality: float = 0.001) -> None:
        super().__init__()
        self.align_input = TransformNet(3)
        self.first = SharedLayers(channels, 64)
        self.align_features = TransformNet(64)
        self.middle = SharedLayers(64, 128)
        self.last = nn.Linear(128, 1024)
        self.pool = NormMax(1024, rectify=False)
        self.head = nn.Sequential(
            *(nn.Linear(1024, 512), PointNorm(512), nn.ReLU()),
            *(nn.Linear(512, 256), nn.Dropout(0.4), PointNorm(256), nn.ReLU()),
            nn.Linear(256, num_classes),
        )
        self.num_classes = num_classes
        self.orthogonality = orthogonality
        self.penalty: Tensor | None = None  # of the last forward pass, to be added to the loss; none in evaluation mode

    def forward(self, points: Tensor) -> Tensor:
        """Return logits (B, num_classes) of points (B, N, channels), for any N."""
        xyz = points[..., :3]
        aligned = align(xyz, predicted_matrix(xyz, self.align_input))
        x = self.first(torch.cat([aligned, points[..., 3:]], -1))
        matrix = predicted_matrix(x, self.align_features)
        self.penalty = self.orthogonality * not_orthogonal(matrix) if self.training else None
        x = align(x, matrix)
        return self.head(self.pool(self.last(self.middle(x))))

    def get_classifier(self) -> nn.Linear:
        return self.head[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "penalty": None}  # part of an autograd graph, which cannot be copied


def not_orthogonal(matrix: Tensor) -> Tensor:
    """Return how far the matrices T (B, C, C) are from orthogonal: the mean of the Frobenius norms of T T' - 1."""
    identity = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    return torch.linalg.matrix_norm(matrix @ matrix.mT - identity).mean()

"""A network of my own: any torch.nn.Module from inputs to logits."""

from torch import Tensor, nn


class MyPart(nn.Module):
    """Three convolutions and a linear layer. It is told what it has parameters for: num_classes, channels and size."""

    def __init__(self, num_classes: int, channels: int, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, channels, H, W)."""
        return self.head(self.body(inputs))

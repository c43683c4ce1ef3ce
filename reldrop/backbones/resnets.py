"""ResNets of timm for images of any size."""

from typing import TYPE_CHECKING, Literal

from torch import nn

from reldrop.backbones.weights import start_from
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, FractionBelowOne, checked

if TYPE_CHECKING:
    from timm.models.resnet import ResNet

SMALL_IMAGE = 64  # pixels; up to here a stride of 4 in the stem would throw away most of the image


@checked
def resnet(
    name: str,
    *,
    num_classes: Count,
    channels: Count = 3,
    size: Count = 224,
    stem: Literal["auto", "cifar", "imagenet"] = "auto",
    weights: str | None = None,
    reset_head: bool = True,
    drop_path: FractionBelowOne = 0.0,
) -> nn.Module:
    """Return a ResNet that takes images (B, channels, size, size) to logits (B, num_classes).

    Args:
        name: a ResNet of timm (resnet18, resnet34, resnet50, resnet101, ...) or "resnet_tiny": one BasicBlock in each of four
            stages of 16, 32, 64 and 128 channels.
        stem: "cifar" is a 3x3 convolution with stride 1 and no pooling; "imagenet" is timm's; "auto" is "cifar" for images of
            up to 64 pixels.
        weights: where to start: None (random), "timm", a checkpoint file, or a Hugging Face repository with timm weights such
            as edadaltocg/resnet18_cifar10.
        reset_head: draw the last layer anew from N(0, 0.01), as the paper does, when starting from weights.
        drop_path: rate of stochastic depth in the last block, in [0, 1).

    Raises:
        ReldropError: for an unknown network or stem, and for weights that cannot be had or do not fit.
    """
    cifar_stem = stem == "cifar" or (stem == "auto" and size <= SMALL_IMAGE)
    model = _build(name, num_classes, channels, drop_path)
    if cifar_stem:
        _use_cifar_stem(model, channels)
    return start_from(model, weights, name, reset_head)


def _build(name: str, num_classes: int, channels: int, drop_path: float) -> "ResNet":
    import timm
    from timm.models.resnet import BasicBlock, ResNet

    options = {"num_classes": num_classes, "in_chans": channels, "drop_path_rate": drop_path}
    if name == "resnet_tiny":
        return ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128), **options)
    if not timm.is_model(name):
        raise ReldropError(f"name={name} is not known to timm; it must be e.g. resnet18 or resnet50")
    model = timm.create_model(name, **options)
    if not isinstance(model, ResNet):
        raise ReldropError(f"name={name} is a {type(model).__name__}; this backbone takes timm's ResNets")
    return model


def _use_cifar_stem(model: "ResNet", channels: int) -> None:
    width = model.bn1.num_features
    model.conv1 = nn.Conv2d(channels, width, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


resnet.kind = "images"  # what it takes, see reldrop.config.check_inputs

"""ResNets and plain vision transformers of timm, for images of any size."""

from typing import Any, Literal

from torch import nn

from reldrop.backbones.weights import start_from
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, FractionBelowOne, checked

SMALL_IMAGE = 64  # pixels; up to here a stride of 4 in the stem would throw away most of the image


@checked
def timm_model(
    name: str,
    *,
    num_classes: Count,
    channels: Count = 3,
    size: Count = 224,
    stem: Literal["auto", "cifar", "imagenet"] = "auto",
    patch: Count | None = None,
    weights: str | None = None,
    reset_head: bool = True,
    drop_path: FractionBelowOne = 0.0,
) -> nn.Module:
    """Return a network that takes images (B, channels, size, size) to logits (B, num_classes).

    Args:
        name: a ResNet (resnet18, resnet50, ...) or a plain vision transformer (vit_tiny_patch16_224, ...) of timm, or one of
            two small ones for CPUs: "resnet_tiny", one BasicBlock in each of four stages of 16, 32, 64 and 128 channels;
            "vit_micro", six blocks of width 96.
        stem: of ResNets. "cifar" is a 3x3 convolution with stride 1 and no pooling; "imagenet" is timm's; "auto" is "cifar"
            for images of up to 64 pixels.
        patch: of vision transformers: side of a patch in pixels, which divides `size`; None for the one of the network, or an
            eighth of the image for vit_micro.
        weights: where to start: None (random), "timm", a checkpoint file, or a Hugging Face repository with timm weights such
            as edadaltocg/resnet18_cifar10.
        reset_head: draw the last layer from N(0, 0.01), as the paper does, when starting from weights.
        drop_path: rate of stochastic depth in the last block, in [0, 1).

    Raises:
        ReldropError: for an unknown network, settings that are not for it, and weights that cannot be loaded or do not fit.
    """
    if name == "vit_micro":
        patch = patch or max(size // 8, 1)
    if patch is not None and size % patch:
        raise ReldropError(f"patch={patch} must divide the {size} pixels of an image's side")
    model = _build(name, size, patch, num_classes=num_classes, in_chans=channels, drop_path_rate=drop_path)
    if hasattr(model, "patch_embed"):
        if stem != "auto":
            raise ReldropError(f"stem={stem} is for ResNets; {name} is a vision transformer, leave stem=auto")
    elif patch is not None:
        raise ReldropError(f"patch={patch} is for vision transformers; {name} is a ResNet, leave patch=null")
    elif stem == "cifar" or (stem == "auto" and size <= SMALL_IMAGE):
        _use_cifar_stem(model, channels)
    return start_from(model, weights, name, reset_head)


def _build(name: str, size: int, patch: int | None, **options: Any) -> nn.Module:
    import timm  # takes seconds
    from timm.models.resnet import BasicBlock, ResNet
    from timm.models.vision_transformer import VisionTransformer

    if name == "resnet_tiny":
        return ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128), **options)
    if name == "vit_micro":
        return VisionTransformer(size, patch, embed_dim=96, depth=6, num_heads=3, **options)
    if not timm.is_model(name):
        raise ReldropError(f"name={name} is not known to timm; it must be e.g. resnet18 or vit_tiny_patch16_224")
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:  # such a network is built for one size of images
        options |= {"img_size": size, "patch_size": patch}
    try:
        model = timm.create_model(name, **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise ReldropError(f"name={name} cannot be built for images of {size} pixels: {error}") from error
    if not isinstance(model, ResNet | VisionTransformer):
        kind = type(model).__name__
        raise ReldropError(f"name={name} is a {kind}; it must be a ResNet or a plain vision transformer of timm")
    return model


def _use_cifar_stem(model: nn.Module, channels: int) -> None:
    model.conv1 = nn.Conv2d(channels, model.bn1.num_features, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


timm_model.kind = "images"  # what it takes, see reldrop.config.check_inputs

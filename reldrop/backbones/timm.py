"""The classifiers of timm, for images of any size."""

from typing import Any, Literal

from torch import nn

from reldrop.backbones.images import check_size
from reldrop.backbones.weights import start_from
from reldrop.utils.errors import ReldropError, first_line
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
        name: any classifier of timm (resnet18, convnext_tiny, vit_tiny_patch16_224, ...), or one of two small ones for CPUs:
            "resnet_tiny", one BasicBlock in each of four stages of 16, 32, 64 and 128 channels; "vit_micro", six blocks of
            width 96.
        stem: of ResNets. "cifar" is a 3x3 convolution with stride 1 and no pooling; "imagenet" is timm's; "auto" is "cifar"
            for images of up to 64 pixels.
        patch: of networks on patches: side of a patch in pixels, which divides `size`; None for the one of the network, or an
            eighth of the image for vit_micro.
        weights: where to start: None (random), "timm", a checkpoint file, or a Hugging Face repository with timm weights such
            as edadaltocg/resnet18_cifar10.
        reset_head: draw the last layer from N(0, 0.01), as the paper does, when starting from weights.
        drop_path: rate of stochastic depth in the last block, in [0, 1).

    Raises:
        ReldropError: for an unknown network, settings that are not for it, images that do not go through it, and weights
            that cannot be loaded or do not fit.
    """
    if name == "vit_micro":
        patch = patch or max(size // 8, 1)
    if patch is not None and size % patch:
        raise ReldropError(f"patch={patch} must divide the {size} pixels of an image's side")
    options = {"num_classes": num_classes, "in_chans": channels}
    if drop_path:  # not all networks have it
        options["drop_path_rate"] = drop_path
    model = _build(name, size, patch, options)
    if _is_resnet(model):
        if stem == "cifar" or (stem == "auto" and size <= SMALL_IMAGE):
            _use_cifar_stem(model, channels)
    elif stem != "auto":
        raise ReldropError(f"stem={stem} is for ResNets; {name} is a {type(model).__name__}, leave stem=auto")
    check_size(model, name, channels, size)
    return start_from(model, weights, name, reset_head, {"timm": lambda: pretrained(name)})


def _build(name: str, size: int, patch: int | None, options: dict[str, Any]) -> nn.Module:
    import timm  # takes seconds
    from timm.models.resnet import BasicBlock, ResNet
    from timm.models.vision_transformer import VisionTransformer

    if name == "resnet_tiny":
        _refuse_patch(patch, name)
        return ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128), **options)
    if name == "vit_micro":
        return VisionTransformer(size, patch, embed_dim=96, depth=6, num_heads=3, **options)
    if not timm.is_model(name):
        raise ReldropError(f"name={name} is not known to timm; it must be e.g. resnet18 or vit_tiny_patch16_224")
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:  # such a network is built for one size of images
        options |= {"img_size": size} | ({} if patch is None else {"patch_size": patch})
    else:
        _refuse_patch(patch, name)
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # each family refuses in its own way what it does not take
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        raise ReldropError(
            f"name={name} cannot be built for images of {size} pixels, with {given}: {first_line(error)}"
        ) from error


def _refuse_patch(patch: int | None, name: str) -> None:
    if patch is not None:
        raise ReldropError(f"patch={patch} is for networks on patches of one size; {name} is none, leave patch=null")


def _is_resnet(model: nn.Module) -> bool:
    from timm.models.resnet import ResNet

    return isinstance(model, ResNet)


def pretrained(name: str) -> dict[str, Any]:
    """Return the weights that timm has for a network, downloaded unless they are there."""
    import timm

    return timm.create_model(name, pretrained=True).state_dict()


def _use_cifar_stem(model: nn.Module, channels: int) -> None:
    model.conv1 = nn.Conv2d(channels, model.bn1.num_features, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


timm_model.kind = "images"  # what it takes, see reldrop.config.check_inputs

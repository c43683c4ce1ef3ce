"""Vision transformers of timm, also for small images."""

from typing import TYPE_CHECKING, Any

from torch import nn

from reldrop.backbones.weights import start_from
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, FractionBelowOne, checked

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

# For small images and CPUs; timm has no transformer of this width.
SMALL = {"vit_micro": {"embed_dim": 96, "depth": 6, "num_heads": 3}}


@checked
def vit(
    name: str,
    *,
    num_classes: Count,
    channels: Count = 3,
    size: Count = 224,
    patch: Count | None = None,
    weights: str | None = None,
    reset_head: bool = True,
    drop_path: FractionBelowOne = 0.0,
) -> nn.Module:
    """Return a vision transformer that takes images (B, channels, size, size) to logits (B, num_classes).

    Args:
        name: a vision transformer of timm (vit_tiny_patch16_224, deit_small_patch16_224, ...) or "vit_micro": six blocks of
            width 96.
        patch: side of a patch in pixels, which divides `size`; None for the one of the network, or an eighth of the image
            for vit_micro.
        weights: where to start: None (random), "timm", a checkpoint file, or a Hugging Face repository with timm weights.
        reset_head: draw the last layer anew from N(0, 0.01), as the paper does, when starting from weights.
        drop_path: rate of stochastic depth in the last block, in [0, 1).

    Raises:
        ReldropError: for an unknown network, patches that do not fit the image, and weights that cannot be had or do not fit.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    options: dict[str, Any] = {"img_size": size, "in_chans": channels, "drop_path_rate": drop_path}
    if patch is not None or name in SMALL:
        patch = patch or max(size // 8, 1)
        if size % patch:
            raise ReldropError(f"patch={patch} must divide the {size} pixels of an image's side")
        options["patch_size"] = patch
    if name in SMALL:
        model = VisionTransformer(num_classes=num_classes, **SMALL[name], **options)
    elif not timm.is_model(name):
        raise ReldropError(f"name={name} is not known to timm; it must be e.g. vit_tiny_patch16_224 or vit_micro")
    else:
        model = _create(name, num_classes, options)
    return start_from(model, weights, name, reset_head)


def _create(name: str, num_classes: int, options: dict[str, Any]) -> "VisionTransformer":
    import timm
    from timm.models.vision_transformer import VisionTransformer

    try:
        model = timm.create_model(name, num_classes=num_classes, **options)
    except (TypeError, AssertionError, ValueError) as error:  # of a network without patches, or that do not fit
        raise ReldropError(
            f"name={name} cannot be built for images of {options['img_size']} pixels: {error}"
        ) from error
    if not isinstance(model, VisionTransformer):
        raise ReldropError(
            f"name={name} is a {type(model).__name__}; this backbone takes timm's plain vision transformers"
        )
    return model


vit.kind = "images"  # what it takes, see reldrop.config.check_inputs

"""The classifiers of torchvision."""

from typing import Any

from torch import nn

from reldrop.backbones.images import check_size
from reldrop.backbones.weights import start_from
from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.types import Count, checked

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # the classifiers of GoogLeNet and Inception v3 that are left out


@checked
def torchvision_model(
    name: str,
    *,
    num_classes: Count,
    channels: Count = 3,
    size: Count = 224,
    weights: str | None = None,
    reset_head: bool = True,
) -> nn.Module:
    """Return a network that takes images (B, channels, size, size) to logits (B, num_classes).

    For images of other than 3 channels, its first convolution is replaced by one that takes them. GoogLeNet and
    Inception v3 are without their auxiliary classifiers.

    Args:
        name: any classifier of torchvision.models (squeezenet1_1, mobilenet_v3_small, convnext_tiny, vit_b_16, ...).
        weights: where to start: None (random), "torchvision", or a checkpoint file.
        reset_head: draw the last layer from N(0, 0.01), as the paper does, when starting from weights.

    Raises:
        ReldropError: for an unknown network, images that do not go through it, and weights that cannot be loaded or do not
            fit.
    """
    from torchvision import models  # takes seconds

    if name not in models.list_models(module=models):
        raise ReldropError(f"name={name} is no classifier of torchvision.models; it must be e.g. resnet18 or vit_b_16")
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = size
    elif name.startswith("maxvit"):
        options["input_size"] = (size, size)
    try:
        model = models.get_model(name, **options)
    except Exception as error:  # each family refuses in its own way what it does not take
        raise ReldropError(f"name={name} cannot be built for images of {size} pixels: {first_line(error)}") from error
    if channels != 3:
        _take_channels(model, channels)
    check_size(model, name, channels, size)
    return start_from(model, weights, name, reset_head, {"torchvision": lambda: _pretrained(name)})


def _take_channels(model: nn.Module, channels: int) -> None:
    """Replace the first convolution of a network by one for inputs of so many channels."""
    name, old = next((name, each) for name, each in model.named_modules() if isinstance(each, nn.Conv2d))
    parent, _, last = name.rpartition(".")
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, bias=old.bias is not None
    )
    setattr(model.get_submodule(parent), last, new)


def _pretrained(name: str) -> dict[str, Any]:
    from torchvision import models

    state = models.get_model(name, weights="DEFAULT").state_dict()
    return {key: value for key, value in state.items() if not key.startswith(AUXILIARY)}


torchvision_model.kind = "images"  # what it takes, see reldrop.config.check_inputs

"""What networks on images of all libraries share: whether images of the data's size go through."""

import torch
from torch import nn

from reldrop.utils.errors import ReldropError, first_line


def check_size(model: nn.Module, name: str, channels: int, size: int) -> None:
    """Refuse a network that images of this size do not go through. The network is left in training mode.

    Args:
        name: of the network, for the message.
        channels: of an image.
        size: side of an image in pixels.

    Raises:
        ReldropError: naming the size and the reason.
    """
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:  # of any library, e.g. an output of no pixels
        raise ReldropError(
            f"name={name} does not take images of {size} pixels ({type(error).__name__}: {first_line(error)}); "
            "it must be another network, or dataset.size another size"
        ) from error
    model.train()

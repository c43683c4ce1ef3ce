"""What an attribution is: the base class of all of them."""

import torch
from torch import Tensor, nn


class Attribution:
    """Says which parts of an input made a network choose a class. Subclass it for one of your own; override `__call__`.

    An attribution must keep these promises:

    - It leaves the model, its buffers, gradients and training flags, the global random state and autocast as found.
    - It computes relevance by the weights as they are at the call, as in evaluation mode.
    - If it is random, it draws from `generator`.

    Attributes:
        conserves: whether the relevance of a sample is meant to sum to 1. Training then logs how near it comes.
    """

    conserves: bool = False

    def __call__(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the relevance of `inputs` for the classes `targets`, int64 (B,).

        It is (B, H, W) for images (B, C, H, W), and (B, N) for point clouds (B, N, C), coordinates first.
        """
        raise NotImplementedError

"""What zennit has to know about timm's residual blocks (zennit itself knows torchvision's only)."""

from typing import Any

import torch
from timm.layers import BlurPool2d
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from zennit.canonizers import AttributeCanonizer, CompositeCanonizer, SequentialMergeBatchNorm
from zennit.layer import Sum
from zennit.rules import Norm, Pass
from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer


class MergeBatchNorm(SequentialMergeBatchNorm):
    """zennit's merging of batch norms, leaving an exact identity behind.

    zennit 0.5.1 keeps the batch norm's eps, so that the merged network divides by sqrt(1 + 1e-5) once more in each
    layer.
    """

    def register(self, linears: Any, batch_norm: nn.Module) -> None:
        self.batch_norm_eps = batch_norm.eps
        super().register(linears, batch_norm)
        batch_norm.eps = torch.finfo(torch.float32).tiny  # 1 + eps = 1; some versions of torch refuse 0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.batch_norm_eps


class TimmBlockCanonizer(AttributeCanonizer):
    """Make the residual sum of timm's BasicBlock and Bottleneck a `Sum` module, which rules can be attached to."""

    def __init__(self) -> None:
        super().__init__(self._attributes)

    @classmethod
    def _attributes(cls, name: str, module: nn.Module) -> dict[str, Any] | None:
        if not isinstance(module, BasicBlock | Bottleneck):
            return None
        forward = cls._basic_block if isinstance(module, BasicBlock) else cls._bottleneck
        return {"forward": forward.__get__(module), "canonizer_sum": Sum()}

    def copy(self) -> "TimmBlockCanonizer":
        return TimmBlockCanonizer()

    @staticmethod
    def _basic_block(self: BasicBlock, x: Tensor) -> Tensor:
        branch = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        branch = self.bn2(self.conv2(branch))
        return self.act2(_residual_sum(self, branch, x))

    @staticmethod
    def _bottleneck(self: Bottleneck, x: Tensor) -> Tensor:
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(branch)))))
        branch = self.bn3(self.conv3(branch))
        return self.act3(_residual_sum(self, branch, x))


def _residual_sum(block: nn.Module, branch: Tensor, shortcut: Tensor) -> Tensor:
    if block.se is not None:
        branch = block.se(branch)
    if block.drop_path is not None:
        branch = block.drop_path(branch)
    if block.downsample is not None:
        shortcut = block.downsample(shortcut)
    return block.canonizer_sum(torch.stack([shortcut, branch], dim=-1))


class ResidualCanonizer(CompositeCanonizer):
    """Everything zennit needs for the ResNets of timm (together with `timm_layer_map`) and of torchvision."""

    def __init__(self) -> None:
        super().__init__(
            (MergeBatchNorm(), TimmBlockCanonizer(), ResNetBottleneckCanonizer(), ResNetBasicBlockCanonizer())
        )


def timm_layer_map(stabilizer: float = 1e-6) -> list[tuple[tuple[type, ...], Any]]:
    """Rules for timm's own layers, to be put in front of a composite's.

    Anti-aliasing averages, so relevance is split in proportion. Squeeze-and-excitation multiplies by a gate that is
    taken as given: all relevance goes to the gated signal (Arras et al. 2017).
    """
    return [((BlurPool2d,), Norm(stabilizer=stabilizer)), ((SEModule, EffectiveSEModule), Pass())]

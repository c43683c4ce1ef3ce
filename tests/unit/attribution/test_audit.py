"""The account of relevance: what it says, and what it warns of."""

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import Audit, check
from reldrop.attribution.audit import Block
from reldrop.utils.errors import ReldropError
from tests.helpers.networks import randomize, timm_model


class Gated(nn.Module):
    """Multiplies a constant with a gate: all that is relevant is a value taken as given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Linear(4, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        return self.head(x + 10 * self.gate(x))


def test_biases_and_blocks_add_up() -> None:
    audit = check(randomize(timm_model("resnet18")), torch.randn(2, 3, 32, 32).double())
    assert abs(audit.imbalance) < 1e-12
    assert [block.name for block in audit.blocks][-1] == "fc"
    assert audit.leak(1e-6) is None
    lines = str(audit).splitlines()
    assert lines[1].startswith("logit")
    assert any(line.startswith("layer3") for line in lines)


def test_values_taken_as_given_are_warned_of() -> None:
    torch.manual_seed(0)
    audit = check(Gated().double(), torch.randn(2, 3, 8, 8).double())
    assert abs(audit.imbalance) < 1e-12
    assert audit.absorbed[1] > 0.1
    assert any("taken as given" in sentence for sentence in audit.warnings())


def test_the_block_that_leaks_is_named() -> None:
    blocks = Block("stem", 0.4, 0.0, 0.0), Block("body", 0.9, 0.1, 0.0), Block("head", 1.0, 0.1, 0.0)
    audit = Audit(0.4, blocks, 0, 0.0)
    assert audit.imbalance == pytest.approx(0.4)
    assert audit.leak(1e-3) == "body"
    assert "'body'" in audit.warnings()[0]


def test_logits_of_zero_have_nothing_to_share() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    nn.init.zeros_(model[0].bias)
    x = torch.randn(3, 3, 8, 8).double()
    x[0] = 0
    assert abs(check(model, x).imbalance) < 1e-12
    with pytest.raises(ReldropError, match="logits of all samples are 0"):
        check(model, x[:1])

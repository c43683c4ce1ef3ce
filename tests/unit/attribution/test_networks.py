"""Networks of timm, of torchvision, and as users write them: covered, conserving, or refused by name."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, check, rules
from reldrop.utils.errors import ReldropError
from scripts.lrp_coverage import generic
from tests.helpers.user_networks import COVERED, ODD, REFUSED, plain

# Of timm, by a small stem or small images where there are such; of torchvision, by its name with a dot in front.
FAMILIES = {
    "resnet18": (32, {}),
    "convnext_atto": (64, {}),
    "efficientnet_lite0": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "regnety_002": (64, {}),
    "densenet121": (64, {}),
    "vgg11_bn": (64, {}),
    "nfnet_l0": (64, {}),
    "swin_tiny_patch4_window7_224": (56, {"img_size": 56, "depths": (1, 1, 1, 1)}),
    "vit_tiny_patch16_224": (32, {"img_size": 32, "depth": 3}),
    "deit_tiny_distilled_patch16_224": (32, {"img_size": 32, "depth": 3}),
    "mixer_s32_224": (64, {"img_size": 64}),
    "eva02_tiny_patch14_224": (28, {"img_size": 28, "depth": 2}),
    ".squeezenet1_1": (64, {}),
    ".mnasnet0_5": (64, {}),
}


def network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    side, options = FAMILIES[name]
    if name.startswith("."):
        model = torchvision.models.get_model(name[1:], weights=None, num_classes=10)
    else:
        model = timm.create_model(name, num_classes=10, **options)
    return generic(model.double().eval()), torch.randn(2, 3, side, side, dtype=torch.float64)


def assert_conserves(model: nn.Module, x: Tensor) -> None:
    """By the audit, and by an ordinary call, by its plan and folded."""
    targets = torch.full((len(x),), 3)
    audit = check(model, x, targets)
    assert abs(audit.imbalance) < 1e-6
    assert audit.relevance != 0
    maps = GradientLRP(0.0, stabilizer=0.0, attention="cplrp")(model, x, targets)
    assert abs(float(maps.sum()) / len(x) - audit.relevance) < 1e-6 * (1 + abs(audit.relevance))


@pytest.mark.parametrize("name", FAMILIES)
def test_conserves(name: str) -> None:
    model, x = network(name)
    before = copy.deepcopy(model.state_dict())
    assert_conserves(model, x)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", COVERED)
@pytest.mark.filterwarnings("ignore")  # of deprecated weight norms and checkpoints
def test_conserves_as_users_write_it(name: str) -> None:
    torch.manual_seed(0)
    model = generic(COVERED[name]().double()).eval()
    assert_conserves(model, torch.randn(2, 3, 32, 32, dtype=torch.float64))


@pytest.mark.parametrize("name", ODD)
def test_conserves_where_the_input_is_read_oddly(name: str) -> None:
    torch.manual_seed(0)
    model, x = generic(ODD[name]().double()).eval(), torch.randn(3, 3, 20, 20, dtype=torch.float64)
    assert_conserves(model, x)
    targets = torch.tensor([1, 2, 3])
    together = GradientLRP()(model, x, targets)
    alone = torch.cat([GradientLRP()(model, x[i : i + 1], targets[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refuses(name: str) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(ReldropError) as error:
        GradientLRP()(build().eval(), torch.randn(1, 3, 32, 32), torch.tensor([0]))
    assert reason in str(error.value)


class _Trick(nn.Module):
    """Reads the stem through a function without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.special.i0e(self.stem(x)).mean((2, 3)))


def test_a_rule_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    model, x = generic(_Trick().double()), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(ReldropError) as error:
        GradientLRP()(model, x, torch.tensor([1, 2]))
    assert "special_i0e" in str(error.value)
    rules.register("special_i0e", rules.activation)
    assert_conserves(model, x)


def test_a_branch_that_depends_on_values_is_planned_anew() -> None:
    model = generic(COVERED["control flow"]().double()).eval()
    attribution = GradientLRP()
    for scale in (0.1, 3.0, 0.1):
        x = scale * torch.randn(2, 3, 32, 32, dtype=torch.float64)
        targets = torch.tensor([1, 2])
        torch.testing.assert_close(attribution(model, x, targets), GradientLRP()(model, x, targets))


def test_follows_weights_that_change_behind_torchs_back() -> None:
    """By .data, which counts no version, and by another tensor in place of a parameter."""
    model, x, targets = plain().double().eval(), torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.tensor([1, 2])
    attribution = GradientLRP()
    attribution(model, x, targets)
    model[0].weight.data.mul_(2)
    model[1].running_var.data.mul_(3)
    torch.testing.assert_close(attribution(model, x, targets), GradientLRP()(model, x, targets))
    model[3].weight = nn.Parameter(torch.randn_like(model[3].weight))
    torch.testing.assert_close(attribution(model, x, targets), GradientLRP()(model, x, targets))


def test_a_network_that_changes_its_type() -> None:
    model, x, targets = plain().eval(), torch.randn(2, 3, 16, 16), torch.tensor([1, 2])
    attribution = GradientLRP()
    single = attribution(model, x, targets)
    double = attribution(model.double(), x.double(), targets)
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(attribution(model.float(), x, targets), single)


def test_writes_into_the_input_stay_in_the_network() -> None:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = plain().double()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.sub_(0.5).div_(0.25))

    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    model, before = Normalized().eval(), x.clone()
    found = GradientLRP()(model, x, torch.tensor([1, 2]))
    expected = GradientLRP()(model.body, (x - 0.5) / 0.25, torch.tensor([1, 2]))
    assert torch.equal(x, before)
    torch.testing.assert_close(found, expected)


def test_a_batch_norm_that_folds_nowhere() -> None:
    """Behind a ReLU; alone, for a batch of one, whose gradient torch 2.14 computes wrongly in some layouts."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(2)),
        *(nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(4 * 36, 10)),
    )
    assert_conserves(generic(model.double()).eval(), torch.randn(1, 3, 8, 8, dtype=torch.float64))


def test_channels_last_layers_with_a_batch_norm_of_another_axis() -> None:
    """BatchNorm1d on (B, N, C) normalizes N, which is no axis of the linear layer before it, even where N = C."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Flatten(), nn.Linear(256, 10)
    )
    assert_conserves(generic(model.double()).eval(), torch.randn(2, 3, 16, 16, dtype=torch.float64))


def test_a_batch_norm_without_eps() -> None:
    """Its variance is small, so that the default eps of 1e-5 would change the logits."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, eps=0.0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    generic(model.double()).eval()
    norm.running_var.fill_(1e-5)
    assert_conserves(model, torch.randn(2, 3, 8, 8, dtype=torch.float64))

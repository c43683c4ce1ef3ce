"""Checkpoints of the common PyTorch PointNet++ are read as what they are."""

from pathlib import Path

import pytest
import torch

from reldrop.backbones import point_network
from reldrop.backbones.common_pointnet2 import common_pointnet2
from reldrop.utils.errors import ReldropError
from tests.helpers.common_pointnet2 import logits, random_state
from tests.helpers.point_networks import clouds


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("with_scales", [False, True])
def test_logits_are_theirs(tmp_path: Path, with_scales: bool, channels: int) -> None:
    state = random_state(with_scales, channels, classes=7)
    torch.save({"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {}}, tmp_path / "best_model.pth")
    network, found = common_pointnet2(tmp_path / "best_model.pth")
    assert found == channels
    points = clouds(2, 600, channels)
    wide = {key: value.double() for key, value in state.items() if value.is_floating_point()}
    expected = logits(wide, points, with_scales)
    torch.testing.assert_close(network.double()(points), expected, rtol=1e-9, atol=1e-9)
    name = "pointnet2_msg" if with_scales else "pointnet2_ssg"
    file = str(tmp_path / "best_model.pth")
    trained = point_network(name, num_classes=7, channels=channels, weights=file, reset_head=False).eval()
    torch.testing.assert_close(trained.double()(points), expected, rtol=1e-9, atol=1e-9)


def test_a_first_layer_without_bias(tmp_path: Path) -> None:
    state = random_state(False, 3, 5)
    del state["fc1.bias"]
    torch.save(state, tmp_path / "release.pth")
    assert not common_pointnet2(tmp_path / "release.pth")[0].head[0].bias.any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fp1.mlp_convs.0.weight": torch.zeros(1)}, "fp1.mlp_convs.0.weight, which no PointNet"),
        ({"fc3.weight": None}, "no checkpoint of a PointNet"),
        ({"fc2.weight": torch.zeros(3, 3)}, "do not fit the network"),
    ],
)
def test_others_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], said: str) -> None:
    state = {key: value for key, value in (random_state(False, 3, 5) | change).items() if value is not None}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ReldropError, match=said):
        common_pointnet2(tmp_path / "other.pth")

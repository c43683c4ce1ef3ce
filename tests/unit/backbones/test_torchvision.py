"""Networks of torchvision."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from reldrop.backbones import torchvision_model
from reldrop.backbones.weights import classifiers
from reldrop.utils.errors import ReldropError


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 32),
        ("mobilenet_v3_small", 32),
        ("shufflenet_v2_x0_5", 32),
        ("resnet18", 32),
        ("regnet_y_400mf", 32),
        ("googlenet", 32),
        ("densenet121", 32),
    ],
)
def test_any_classifier(tmp_path: Path, name: str, size: int) -> None:
    chosen = {"num_classes": 5, "channels": 1, "size": size}
    model = torchvision_model(name, **chosen)
    assert model.training
    assert model.eval()(torch.randn(2, 1, size, size)).shape == (2, 5)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pt")
    fresh = copy.deepcopy(torchvision_model(name, **chosen, weights=str(tmp_path / "weights.pt")))
    (head,) = classifiers(fresh)
    assert len(head.weight) == 5
    assert 0.005 < head.weight.std() < 0.015
    assert not head.bias.any()
    inside = {id(value) for value in head.parameters()}
    kept = {key for key, value in fresh.named_parameters() if id(value) not in inside}
    assert all(torch.equal(model.get_parameter(key), fresh.get_parameter(key)) for key in kept)
    same = torchvision_model(name, **chosen, weights=str(tmp_path / "weights.pt"), reset_head=False).state_dict()
    assert all(torch.equal(value, same[key]) for key, value in model.state_dict().items())


def test_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = models.get_model("googlenet", num_classes=1000, aux_logits=True, init_weights=False)
    build = models.get_model

    def get_model(name: str, **options: Any) -> nn.Module:
        return theirs if options.get("weights") == "DEFAULT" else build(name, **options)

    monkeypatch.setattr(models, "get_model", get_model)
    model = torchvision_model("googlenet", num_classes=5, size=32, weights="torchvision")
    assert torch.equal(model.conv1.conv.weight, theirs.conv1.conv.weight)
    with pytest.raises(ReldropError, match="for 1000 classes, the data have 5 classes"):
        torchvision_model("googlenet", num_classes=5, size=32, weights="torchvision", reset_head=False)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"name": "resnet19"}, "^name=resnet19 is no classifier of torchvision.models; it must be e.g. resnet18"),
        ({"name": "fcn_resnet50"}, "^name=fcn_resnet50 is no classifier"),
        ({"name": "vit_b_16", "size": 40}, "^name=vit_b_16 cannot be built for images of 40 pixels"),
        ({"name": "squeezenet1_1", "size": 8}, "^name=squeezenet1_1 does not take images of 8 pixels .*dataset.size"),
        ({"name": "resnet18", "weights": "/no/such/file"}, "weights=/no/such/file does not exist"),
    ],
)
def test_wrong_settings(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ReldropError, match=names):
        torchvision_model(**{"num_classes": 10, **options})

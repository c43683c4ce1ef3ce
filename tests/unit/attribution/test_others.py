"""Attributions of other packages: what zennit warns of, and the adapter of captum."""

import logging

import pytest
import torch
from torch import nn

from reldrop.attribution import Captum, ZennitLRP
from reldrop.utils.errors import ReldropError
from tests.helpers.networks import randomize, timm_model


def test_zennit_says_once_where_it_cannot_be_trusted(caplog: pytest.LogCaptureFixture) -> None:
    inputs, targets = torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    with caplog.at_level(logging.WARNING):
        ZennitLRP()(timm_model("resnet18"), inputs, targets)
        assert not caplog.records
        attribution = ZennitLRP()
        for _ in range(2):
            attribution(randomize(timm_model("mobilenetv2_050")).float(), inputs, targets)
    assert len(caplog.records) == 1
    assert "cannot be trusted" in caplog.text


def test_captum(tiny: nn.Module, batch: tuple) -> None:
    attr = pytest.importorskip("captum.attr", reason="the extra captum is not installed")
    inputs, targets = batch
    found = Captum("IntegratedGradients", options={"n_steps": 4})(tiny, inputs, targets)
    expected = attr.IntegratedGradients(tiny.eval()).attribute(inputs, target=targets, n_steps=4).sum(1)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    cam = Captum("LayerGradCam", layer="layer3")(tiny, inputs, targets)
    assert cam.shape == inputs[:, 0].shape
    assert cam.abs().sum() > 0
    assert not tiny.layer3._forward_hooks
    with pytest.raises(ReldropError, match=r"layer=layer9 .* did you mean layer"):
        Captum("LayerGradCam", layer="layer9")(tiny, inputs, targets)
    with pytest.raises(ReldropError, match="needs the name of a module"):
        Captum("LayerGradCam")
    with pytest.raises(ReldropError, match="did you mean IntegratedGradients"):
        Captum("IntegratedGradient")


def test_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(ReldropError, match=r"pip install reldrop\[captum\]"):
        Captum("Saliency")

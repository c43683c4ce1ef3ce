"""Weights to start from, and what is said of those that do not fit."""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reldrop.backbones import timm_model
from reldrop.utils.errors import ReldropError


def tiny(classes: int = 10, **options: Any) -> torch.nn.Module:
    return timm_model("resnet_tiny", num_classes=classes, size=16, **options)


@pytest.mark.parametrize("kind", ["state dict", "checkpoint", "safetensors"])
def test_loads_any_common_file(tmp_path: Path, kind: str) -> None:
    state = tiny().state_dict()
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state, "epoch": 3} if kind == "checkpoint" else state, path)
    loaded = tiny(weights=str(path), reset_head=False).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    other = tiny(classes=3, weights=str(path)).state_dict()
    assert {key for key, value in state.items() if value.shape != other[key].shape} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(other[key], value) for key, value in state.items() if not key.startswith("fc."))
    assert not other["fc.bias"].any()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda state: state.pop("conv1.weight"), {}, r"network resnet_tiny \(missing conv1.weight\)"),
        (lambda state: state.update(a=torch.ones(1), b=torch.ones(1)), {}, r"\(unknown a and 1 more\)"),
        (lambda state: state.update({"conv1.weight": torch.ones(2)}), {}, r"\(size mismatch for conv1.weight"),
        (lambda state: state.pop("fc.bias"), {"reset_head": False}, r"\(missing fc.bias\)"),
        (lambda state: None, {"classes": 3, "reset_head": False}, "for 10 classes, the data have 3 classes"),
        (lambda state: state.clear(), {}, r"\(missing conv1.weight and \d+ more\)"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: Any, options: dict[str, Any], message: str) -> None:
    state = tiny().state_dict()
    change(state)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ReldropError, match=message):
        tiny(weights=str(tmp_path / "weights.pt"), **options)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("no weights")
    with pytest.raises(ReldropError, match=r"weights.pt cannot be read .* may be damaged"):
        tiny(weights=str(path))
    torch.save([1, 2], path)
    with pytest.raises(ReldropError, match="hold no state dict but a list; it must be one, or be under one of"):
        tiny(weights=str(path))
    with pytest.raises(ReldropError, match=r"nothing.safetensors does not exist"):
        tiny(weights=str(tmp_path / "nothing.safetensors"))
    with pytest.raises(ReldropError, match=r"nothing.pth.tar does not exist"):
        tiny(weights="some/nothing.pth.tar")
    with pytest.raises(ReldropError, match=r" is a folder; it must be a checkpoint file"):
        tiny(weights=str(tmp_path))
    torch.save({"state": tiny().state_dict(), "epoch": 3}, path)
    with pytest.raises(ReldropError, match="hold no state dict but a dict with state, epoch; it must be one"):
        tiny(weights=str(path))
    torch.save({"model": tiny().state_dict(), "net": tiny().state_dict()}, path)
    with pytest.raises(ReldropError, match="hold several state dicts, model and net; keep one of them"):
        tiny(weights=str(path))
    torch.save({"model": tiny().state_dict(), "share": Fraction(1, 2)}, path)
    with pytest.raises(ReldropError, match=r"hold other objects than tensors \(fractions.Fraction\)"):
        tiny(weights=str(path))


def prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        *map(prefixed, ("module.", "model.", "net.", "backbone.", "_orig_mod.module.")),
        *(
            lambda state, key=key: {key: state, "epoch": 3}
            for key in ("state_dict", "model_state_dict", "model", "net")
        ),
        lambda state: {"model": {"state_dict": prefixed("module.")(state)}},
        lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}},
        lambda state: {"state_dict_ema": state, "state_dict": {"other": torch.ones(1)}},
        lambda state: {**prefixed("module.")(state), "n_averaged": torch.ones(1)},
        lambda state: {**state, "epoch": 3},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    ],
)
def test_what_training_scripts_wrap_around_weights(tmp_path: Path, wrap: Callable[[dict[str, Any]], Any]) -> None:
    state = tiny().state_dict()
    torch.save(wrap(state), tmp_path / "weights.pth.tar")
    loaded = tiny(weights=str(tmp_path / "weights.pth.tar"), reset_head=False).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())

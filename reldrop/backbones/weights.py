"""Weights to start from: timm's, a file's, or those of a Hugging Face repository."""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from reldrop.utils.errors import ReldropError, first_line


def start_from(model: nn.Module, source: str | None, name: str, reset_head: bool) -> nn.Module:
    """Return `model`, with weights loaded if there is a `source`, and then perhaps with a new last layer.

    Args:
        source: see `load_weights`; None leaves the random weights.
        reset_head: whether the last layer is drawn anew instead of loaded.

    Raises:
        ReldropError: see `load_weights`.
    """
    if source is not None:
        load_weights(model, source, name, keep_head=not reset_head)
        if reset_head:
            reset_classifier(model.get_classifier())
    return model


def load_weights(model: nn.Module, source: str, name: str, keep_head: bool) -> None:
    """Load weights into `model` in place.

    Args:
        source: "timm" for timm's pretrained weights of the network `name`, the path of a checkpoint (a state dict, or one of
            this package's), or the id OWNER/NAME of a Hugging Face repository.
        keep_head: whether the last layer is loaded as well.

    Raises:
        ReldropError: if the source does not exist, cannot be reached, or belongs to another network.
    """
    state = _fetch(source, name)
    expected = model.state_dict()
    head = _classifier_keys(model)
    if keep_head:
        classes = [len(state[key]) for key in head if key in state]
        if classes and classes[0] != model.num_classes:
            raise ReldropError(
                f"the weights {source} are for {classes[0]} classes, the data have {model.num_classes} classes; set "
                "backbone.reset_head=true to start with a new last layer"
            )
    else:
        state = {key: value for key, value in state.items() if key not in head}
    missing = sorted(set(expected) - set(state) - (set() if keep_head else head))
    unexpected = sorted(set(state) - set(expected))
    other_shape = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    problems = [
        f"{what}: {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for what, keys in (("missing", missing), ("unknown", unexpected), ("of another shape", other_shape))
        if keys
    ]
    if problems:
        raise ReldropError(f"the weights {source} do not fit the network {name} ({'; '.join(problems)})")
    model.load_state_dict(state, strict=False)


def reset_classifier(layer: nn.Linear) -> None:
    """Draw the weights of the last layer from N(0, 0.01) and set its biases to zero, as the release does."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


def _classifier_keys(model: nn.Module) -> set[str]:
    head = model.get_classifier()
    names = {name for name, module in model.named_modules() if module is head}
    return {key for key in model.state_dict() if key.rsplit(".", 1)[0] in names}


def _fetch(source: str, name: str) -> dict[str, Tensor]:
    path = Path(source).expanduser()
    if path.is_file():
        return _read(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors"):
        raise ReldropError(f"weights={path} does not exist")
    import timm  # takes seconds, and files do without
    from timm.models import load_state_dict_from_hf

    try:
        if source == "timm":
            return timm.create_model(name, pretrained=True).state_dict()
        return load_state_dict_from_hf(source)
    except Exception as error:  # the hub client raises many types: no network, no such repository, no weights in it
        raise ReldropError(
            f"cannot fetch the weights {source!r} ({type(error).__name__}: {first_line(error)}); check the name and the "
            "connection, or download them elsewhere and give backbone.weights the path of the file"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise ReldropError(
            f"the weights {path} cannot be read ({first_line(error)}); the file may be damaged"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ReldropError(f"the file {path} holds no state dict of tensors")
    return state

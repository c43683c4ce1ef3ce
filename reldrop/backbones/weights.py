"""Weights to start from: timm's, a file's, or those of a Hugging Face repository."""

from pathlib import Path
from typing import Any

from torch import nn

from reldrop.utils.errors import ReldropError, first_line


def start_from(model: nn.Module, source: str | None, name: str, reset_head: bool) -> nn.Module:
    """Return `model` with weights loaded from `source`.

    Args:
        source: None leaves the random weights; "timm" for timm's pretrained weights of the network `name`, the path of a
            checkpoint (a state dict, or one of this package's), or the id OWNER/NAME of a Hugging Face repository.
        reset_head: draw the last layer from N(0, 0.01), with biases 0, as the release does, instead of loading it.

    Raises:
        ReldropError: the source does not exist, cannot be read or reached, or belongs to another network.
    """
    if source is None:
        return model
    state, classifier = _fetch(source, name), model.get_classifier()
    prefix = next(f"{key}." for key, module in model.named_modules() if module is classifier)
    head = {key for key in model.state_dict() if key.startswith(prefix)}
    if reset_head:
        state = {key: value for key, value in state.items() if key not in head}
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)
    elif (classes := [len(state[key]) for key in head if key in state]) and classes[0] != model.num_classes:
        raise ReldropError(
            f"the weights {source} are for {classes[0]} classes, the data have {model.num_classes} classes; set "
            "backbone.reset_head=true to start with a new last layer"
        )
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
        missing = [key for key in missing if not (reset_head and key in head)]
        problems = [
            f"{what} {keys}" for what, keys in (("missing", _some(missing)), ("unknown", _some(unknown))) if keys
        ]
    except RuntimeError as error:  # of another shape; the first line is a title
        problems = [line.strip() for line in str(error).splitlines()[1:2]]
    if problems:
        raise ReldropError(f"the weights {source} do not fit the network {name} ({'; '.join(problems)})")
    return model


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:1]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def _fetch(source: str, name: str) -> dict[str, Any]:
    path = Path(source).expanduser()
    if not path.is_file() and path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors"):
        raise ReldropError(f"weights={path} does not exist")
    import timm  # takes seconds
    from timm.models import load_state_dict, load_state_dict_from_hf

    try:
        if path.is_file():
            return load_state_dict(str(path))
        if source == "timm":
            return timm.create_model(name, pretrained=True).state_dict()
        return load_state_dict_from_hf(source)
    except Exception as error:  # there are many types: a damaged file, no network, no such repository, no weights in it
        reason = f"{type(error).__name__}: {first_line(error)}"
        if path.is_file():
            message = f"the weights {path} cannot be read ({reason}); the file may be damaged, or hold no state dict"
        else:
            message = (
                f"cannot fetch the weights {source!r} ({reason}); check the name and the connection, or download them "
                "elsewhere and give backbone.weights the path of the file"
            )
        raise ReldropError(message) from error

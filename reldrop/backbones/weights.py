"""Weights to start from: those of timm or torchvision, a file's, or those of a Hugging Face repository."""

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reldrop.utils.errors import ReldropError, first_line
from reldrop.utils.text import unknown

State = dict[str, Tensor]

# Keys under which training scripts keep a state dict, and what they put before its keys. Averaged weights come first.
AVERAGED = ("state_dict_ema", "model_ema")
WRAPPERS = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "module")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
COUNTER = ".num_batches_tracked"  # of batch norms; files of torch before 0.4.1 lack it, and nothing reads it
SUFFIXES = (".pt", ".pth", ".tar", ".th", ".bin", ".ckpt", ".safetensors")


def start_from(
    model: nn.Module,
    source: str | None,
    name: str,
    reset_head: bool,
    libraries: dict[str, Callable[[], State]] | None = None,
    translate: Callable[[State], State] = dict,
) -> nn.Module:
    """Return `model` with weights loaded from `source`.

    Args:
        model: the network; see `classifiers` for which of its layers is the last.
        source: None leaves the random weights; a name in `libraries` for the weights that these fetch, the path of a
            checkpoint (a state dict, also inside the checkpoint of a training script, or with a prefix to all its keys), or
            the id OWNER/NAME of a Hugging Face repository.
        name: of the network.
        reset_head: draw the last layer from N(0, 0.01), with biases 0, as the release does, instead of loading it.
        libraries: where pretrained weights come from, by the names of their libraries.
        translate: makes the network's names of those of other implementations.

    Raises:
        ReldropError: the source does not exist, cannot be read or reached, or belongs to another network.
    """
    if source is None:
        return model
    own = model.state_dict()
    state = translate(_without_prefix(_fetch(source, libraries or {}), own))
    heads = classifiers(model)
    prefixes = tuple(f"{key}." for key, module in model.named_modules() if any(module is head for head in heads))
    in_head = {key for key in own if key.startswith(prefixes)}
    if reset_head:
        state = {key: value for key, value in state.items() if key not in in_head}
        for head in heads:
            nn.init.normal_(head.weight, std=0.01)
            if head.bias is not None:
                nn.init.zeros_(head.bias)
    else:
        counts = [(len(state[key]), len(own[key])) for key in sorted(in_head) if key in state]
        if wrong := [pair for pair in counts if pair[0] != pair[1]]:
            raise ReldropError(
                f"the weights {source} are for {wrong[0][0]} classes, the data have {wrong[0][1]} classes; set "
                "backbone.reset_head=true to start with a new last layer"
            )
    return load(model, state, source, name, in_head if reset_head else set())


def load(model: nn.Module, state: State, source: str, name: str, left_out: Collection[str] = ()) -> nn.Module:
    """Return `model` with these weights.

    Args:
        source: where they come from, for messages.
        name: of the network, likewise.
        left_out: keys that need not be there.

    Raises:
        ReldropError: they belong to another network.
    """
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
        missing = [key for key in missing if key not in left_out and not key.endswith(COUNTER)]
        problems = [
            f"{what} {keys}" for what, keys in (("missing", _some(missing)), ("unknown", _some(unknown))) if keys
        ]
    except RuntimeError as error:  # of another shape; the first line is a title
        problems = [line.strip() for line in str(error).splitlines()[1:2]]
    if problems:
        raise ReldropError(f"the weights {source} do not fit the network {name} ({'; '.join(problems)})")
    return model


def classifiers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that make logits: those of `get_classifier()`, as in timm, or the last linear layer or convolution.

    They are one, or two in a network with a head for distillation.
    """
    found = model.get_classifier() if hasattr(model, "get_classifier") else list(model.modules())
    linear = [
        layer
        for each in (found if isinstance(found, tuple | list) else [found])
        for layer in each.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    return linear if hasattr(model, "get_classifier") else linear[-1:]


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:1]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def _without_prefix(state: State, own: State) -> State:
    """Return a state dict without the prefixes that all its keys have, until one of them is a key of the network."""
    while state and not own.keys() & state.keys():
        prefix = next((each for each in PREFIXES if all(key.startswith(each) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _fetch(source: str, libraries: dict[str, Callable[[], State]]) -> State:
    path = Path(source).expanduser()
    if path.is_file():
        return read_state(path)
    if path.is_dir():
        raise ReldropError(f"weights={path} is a folder; it must be a checkpoint file")
    if path.suffix in SUFFIXES or path.is_absolute():
        raise ReldropError(f"weights={path} does not exist")
    if source not in libraries and "/" not in source:
        known = ", ".join([*libraries, "a file, or OWNER/NAME of the Hugging Face hub"])
        raise ReldropError(unknown(f"weights={source} is not known", source, libraries, f"it must be {known}"))
    try:
        if source in libraries:
            return libraries[source]()
        from timm.models import load_state_dict_from_hf  # takes seconds

        return load_state_dict_from_hf(source)
    except ReldropError:
        raise
    except Exception as error:  # there are many types: no network, no such repository, no weights in it
        raise ReldropError(
            f"cannot fetch the weights {source!r} ({type(error).__name__}: {first_line(error)}); check the name and the "
            "connection, or download them elsewhere and give backbone.weights the path of the file"
        ) from error


def read_state(path: Path) -> State:
    """Return the state dict in a checkpoint file, also one inside the checkpoint of a training script.

    Raises:
        ReldropError: the file cannot be read, or holds none.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there are many types: a damaged file, objects of other classes
        reason = first_line(error)
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            found = str(error).partition("GLOBAL ")[2].split(" ")[0]
            raise ReldropError(
                f"the weights {path} hold other objects than tensors ({found}), which are not loaded from a file; "
                "save the state dict of the network alone"
            ) from error
        raise ReldropError(
            f"the weights {path} cannot be read ({type(error).__name__}: {reason}); the file may be damaged"
        ) from error
    return _state_in(content, path)


def _state_in(content: Any, path: Path) -> State:
    """Return the state dict in what a file holds, under one of the common keys."""
    state = content
    while isinstance(state, dict) and (keys := [key for key in WRAPPERS if isinstance(state.get(key), dict)]):
        if len(keys) > 1 and keys[0] not in AVERAGED:
            raise ReldropError(f"the weights {path} hold several state dicts, {' and '.join(keys)}; keep one of them")
        state = state[keys[0]]
    tensors = (
        {key: value for key, value in state.items() if isinstance(value, Tensor)} if isinstance(state, dict) else {}
    )
    tensors.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel
    if isinstance(state, dict) and (tensors or not state):
        return tensors
    holds = f"a {type(content).__name__}"
    if isinstance(content, dict):
        holds += f" with {', '.join(map(str, list(content)[:5]))}"
    raise ReldropError(
        f"the weights {path} hold no state dict but {holds}; it must be one, or be under one of {', '.join(WRAPPERS)}"
    )

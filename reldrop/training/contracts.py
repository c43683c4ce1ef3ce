"""What parts promise, tried on a small batch before training: a part that breaks a promise is refused by name.

A part of somebody's own that raises an error is named with the line that raised it, so that the message ends in their
file and not in a traceback of this package.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, check
from reldrop.utils.errors import ReldropError, own_frames, raised
from reldrop.utils.tensors import positions

logger = logging.getLogger("reldrop")

_UNREPEATABLE = "returns something else when it is called again; all that is random must be drawn from `generator`"


def check_kinds(**parts: tuple[Any, type]) -> None:
    """Refuse parts, by their groups, that are not of the class that is given with them.

    Raises:
        ReldropError: naming the part and the class.
    """
    for group, (part, kind) in parts.items():
        if not isinstance(part, kind):
            wanted = f"{kind.__module__}.{kind.__name__}"
            raise ReldropError(f"{group} {type(part).__name__} is no {kind.__name__}; it must be one, see {wanted}")


def check_backbone(model: nn.Module, inputs: Tensor, num_classes: int) -> None:
    """Refuse a network that makes no logits of a batch, in evaluation mode.

    Args:
        model: the network; it is left in training mode.
        inputs: (B, C, H, W) or (B, N, C).
        num_classes: how many logits an input has.

    Raises:
        ReldropError: naming the network and the promise that it breaks.
    """
    name = f"backbone {type(model).__name__}"
    before = {"inputs": inputs.clone()}
    with torch.no_grad():
        logits = _call(name, model.eval(), inputs)
    model.train()
    _refuse_changes(name, before, {"inputs": inputs})
    _refuse_unlike(name, "logits", logits, (len(inputs), num_classes), inputs.device)
    if not logits.is_floating_point():
        raise ReldropError(f"{name} returns logits of type {logits.dtype}; they must be floating-point numbers")
    if not any(value.requires_grad for value in model.parameters()):
        raise ReldropError(f"{name} has no parameters to train; register its layers as attributes of the module")


def check_attribution(attribution: Callable[..., Any], model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Refuse an attribution that changes what it only reads, or that returns no finite map of the inputs.

    Args:
        attribution: the part.
        model: the network.
        inputs: (B, C, H, W) or (B, N, C).
        targets: classes (B,).

    Raises:
        ReldropError: naming the attribution and the promise that it breaks.
    """
    name = f"attribution {type(attribution).__name__}"
    before = _state(model, inputs)
    relevance, again = (
        _call(name, attribution, model, inputs, targets, generator=torch.Generator().manual_seed(0)) for _ in range(2)
    )
    _refuse_changes(name, before, _state(model, inputs))
    _refuse_unlike(name, "relevance", relevance, positions(inputs), inputs.device)
    if not relevance.is_floating_point() or not relevance.isfinite().all():
        raise ReldropError(f"{name} returns relevance that is not finite; it must return finite floating-point numbers")
    if relevance.requires_grad:
        raise ReldropError(f"{name} returns relevance that requires gradients; it must be detached")
    if not torch.allclose(relevance, again, rtol=1e-3, atol=1e-3 * relevance.abs().max().item()):
        raise ReldropError(f"{name} {_UNREPEATABLE}")


def warn_of_relevance(attribution: Callable[..., Any], model: nn.Module, inputs: Tensor) -> None:
    """Log what a person should know of the relevance in a network before training; nothing for other attributions than LRP.

    Args:
        attribution: the part, which has passed `check_attribution`.
        model: the network.
        inputs: (B, C, H, W) or (B, N, C).
    """
    if isinstance(attribution, GradientLRP):
        try:
            sentences = check(model, inputs, attribution=attribution).warnings()
        except ReldropError as error:  # the attribution itself has passed: no logit to account for, in this batch
            sentences = [str(error)]
        for sentence in sentences:
            logger.warning("attribution %s on a random batch: %s", type(attribution).__name__, sentence)


def check_augmentation(augmentation: Callable[..., Any], inputs: Tensor, num_classes: int) -> None:
    """Refuse an augmentation that returns no batch like the one it was given, or that changes this one in place.

    Args:
        augmentation: the part. It is called as in training, with random maps as relevance.
        inputs: (B, C, H, W) or (B, N, C).
        num_classes: how many classes targets have.

    Raises:
        ReldropError: naming the augmentation and the promise that it breaks.
    """
    name = f"augmentation {type(augmentation).__name__}"
    rng, same = torch.Generator().manual_seed(0), torch.Generator()
    targets = torch.arange(len(inputs)) % num_classes
    maps = torch.rand(positions(inputs), generator=rng)
    before = {"inputs": inputs.clone(), "targets": targets.clone(), "global random state": torch.get_rng_state()}
    same.set_state(rng.get_state())
    result, again = (_call(name, augmentation, inputs, targets, maps.__getitem__, each, None) for each in (rng, same))
    after = {"inputs": inputs, "targets": targets, "global random state": torch.get_rng_state()}
    _refuse_changes(name, before, after)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ReldropError(f"{name} returns {_described(result)}; it must return inputs and targets")
    _refuse_unlike(name, "inputs", result[0], tuple(inputs.shape), inputs.device)
    if result[0].dtype != inputs.dtype:
        raise ReldropError(f"{name} returns inputs of type {result[0].dtype}; it must keep {inputs.dtype}")
    new = result[1]
    classes = isinstance(new, Tensor) and new.shape == targets.shape and new.dtype == torch.int64
    if not classes and not _are_probabilities(new, (len(inputs), num_classes)):
        raise ReldropError(
            f"{name} returns {_described(new)} as targets; it must return classes ({len(inputs)},) or probabilities "
            f"({len(inputs)}, {num_classes}) that sum to 1"
        )
    if not all(map(torch.equal, result, again)):
        raise ReldropError(f"{name} {_UNREPEATABLE}")


@contextmanager
def naming(**parts: Any) -> Iterator[None]:
    """Name the part of the user's own, by its group, that an error inside the block comes from.

    Raises:
        ReldropError: in place of an error that a file of one of the parts raises.
    """
    try:
        yield
    except ReldropError:
        raise
    except Exception as error:
        files = {frame.filename for frame in own_frames(error)}
        for group, part in parts.items():
            if getattr(sys.modules.get(type(part).__module__), "__file__", None) in files:
                raise ReldropError(f"{group} {type(part).__name__} fails: {raised(error)}") from error
        raise


def _are_probabilities(values: Any, shape: tuple[int, int]) -> bool:
    if not isinstance(values, Tensor) or tuple(values.shape) != shape or not values.is_floating_point():
        return False
    return bool((values >= 0).all() and torch.allclose(values.sum(1), values.new_ones(len(values)), atol=1e-3))


def _state(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """Return copies of what an attribution must leave as it is."""
    return {
        "parameters": {name: value.detach().clone() for name, value in model.named_parameters()},
        "buffers": {name: value.clone() for name, value in model.named_buffers()},
        "gradients": {
            name: None if value.grad is None else value.grad.clone() for name, value in model.named_parameters()
        },
        "requires_grad": {name: value.requires_grad for name, value in model.named_parameters()},
        "training flags": {name: module.training for name, module in model.named_modules()},
        "inputs": inputs.detach().clone(),
        "global random state": torch.get_rng_state(),
    }


def _refuse_changes(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    for what, old in before.items():
        for key in _changed(old, after[what]):
            of = f" of {key}" if key else ""
            raise ReldropError(f"{name} changes the {what}{of}; it must leave them as they are")


def _changed(old: Any, new: Any) -> list[str]:
    """Return the keys whose values differ; an empty key for two tensors that do."""
    if not isinstance(old, dict):
        return [] if torch.equal(old, new) else [""]
    if old.keys() != new.keys():
        return sorted(old.keys() ^ new.keys())
    return [
        key
        for key, value in old.items()
        if not (
            torch.equal(value, new[key])
            if isinstance(value, Tensor) and isinstance(new[key], Tensor)
            else value is new[key]
        )
    ]


def _refuse_unlike(name: str, what: str, value: Any, shape: tuple[int, ...], device: torch.device) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.device != device:
        raise ReldropError(f"{name} returns {_described(value)} as {what}; it must return a tensor {shape} on {device}")


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor {tuple(value.shape)} of type {value.dtype} on {value.device}"


def _call(name: str, part: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return part(*args, **options)
    except ReldropError:
        raise
    except Exception as error:
        raise ReldropError(f"{name} fails on a batch of two: {raised(error)}") from error

"""A network as it is evaluated: bare of wrappers, in evaluation mode, without checkpointing."""

import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch.utils.checkpoint
from torch import Tensor, nn

from reldrop.utils.errors import ReldropError


def bare(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers that compile it or spread it over devices."""
    while hasattr(model, "_orig_mod") or isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def logits_of(output: object) -> Tensor:
    """Return the logits in what a network returns: a tensor, or the one of that name in an output of transformers."""
    logits = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(output).__name__}"
        raise ReldropError(f"the network returns {found}; it must return one tensor of logits (B, K)")
    return logits


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave torch.inference_mode, under which there is no gradient, where it is on."""
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode, and give each submodule its own training flag back afterwards.

    By `train()` and `eval()`, which some networks use to drop what they keep for evaluation.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            if module.training != training:
                module.train(training)


_lock = threading.Lock()
_switched_off = 0  # by how many, in all threads
_kept: dict[str, Any] = {}  # of torch.utils.checkpoint, to be put back by the last of them


@contextmanager
def no_checkpointing() -> Iterator[None]:
    """Keep all activations: what the backward pass computed again, it would compute without rules.

    It holds for all threads, until the last that asked for it is done.
    """
    global _switched_off

    def nothing(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    def run(function: Any, preserve: bool, *args: Any) -> Any:
        return function(*args)

    plain = {
        "CheckpointFunction": types.SimpleNamespace(apply=run),
        "_checkpoint_without_reentrant_generator": nothing,
        "_checkpoint_without_reentrant_generator_impl": nothing,  # of newer torch
    }
    module = vars(torch.utils.checkpoint)
    with _lock:
        if not _switched_off:
            _kept.update({key: module[key] for key in plain if key in module})
            module.update({key: plain[key] for key in _kept})
        _switched_off += 1
    try:
        yield
    finally:
        with _lock:
            _switched_off -= 1
            if not _switched_off:
                module.update(_kept)

"""A CUDA device that is not there: what would be launched, waited for, or mixed up, found without a GPU.

A `Pretended` tensor says to Python that it is on cuda:0, and computes on the CPU, with real values. torch's FakeTensorMode
does not do here: the engine of its backward pass asks for a CUDA context.
"""

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
HERE, PACKAGE = Path(__file__), str(Path(__file__).parents[2] / "reldrop")
# Allocations and views: nothing is launched.
FREE = {
    *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"),
    *("_unsafe_view", "_reshape_alias", "is_same_size", "_local_scalar_dense"),
}
# What tells the host something about values.
WAITS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "unique_dim", "bincount"),
    *("equal", "is_nonzero", "repeat_interleave"),
}


class DeviceMix(RuntimeError):
    """Tensors, or a tensor and a generator, of two devices in one operation."""


class Log:
    """What has happened on the device, in each phase: how many operations were launched, and where the host waited."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.waits: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.phase, self.backward, self.launched = "", False, 0

    def begin(self, phase: str) -> None:
        self.phase = phase

    def launch(self, count: int = 1) -> None:
        self.launches[self.phase] += count
        self.launched += count

    def wait(self, what: str) -> None:
        self.waits[self.phase][f"{what} in {_place()}"] += 1


class Pretended(Tensor):
    """A tensor of the device."""

    log = Log()

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "Pretended":
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cpu",
            requires_grad=requires_grad,
        )

    def __init__(self, inner: Tensor, requires_grad: bool = False) -> None:
        self.inner = inner

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def _set_data(self, value: "Pretended") -> None:
        Tensor.data.__set__(self, value)
        self.inner = value.inner

    data = property(lambda self: Tensor.data.__get__(self), _set_data)

    def __repr__(self) -> str:
        return f"Pretended({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, log = dict(kwargs or {}), cls.log
        name = func._schema.name.removeprefix("aten::")
        _check_devices(func, name, args, kwargs)
        if name in WAITS:
            log.wait(name)
        view = any(
            returned.alias_info is not None and not returned.alias_info.is_write for returned in func._schema.returns
        )
        if not view and name not in FREE:
            log.launch()
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        return _written(func, args, kwargs, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def _pretended(value: Any) -> Any:
    return Pretended(value) if type(value) is Tensor else value


def _check_devices(func: Any, name: str, args: Any, kwargs: Any) -> None:
    """Raise `DeviceMix` for a tensor of the CPU, if it has dimensions, and log copies that the host waits for."""
    log = Pretended.log
    others = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not isinstance(x, Pretended)]
    if name == "copy_":
        waits = not (len(args) > 2 and args[2]) and not kwargs.get("non_blocking", False)
        if others and (waits or args[0] is others[0]):
            log.wait("a copy")
    elif name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        indices = [index for index in args[1] if index is not None]
        if not isinstance(args[0], Pretended):
            raise DeviceMix(f"a tensor of the CPU indexed by one of the device in {_place()}")
        if any(not isinstance(index, Pretended) for index in indices):
            log.wait("an index on the CPU")
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            log.wait("a boolean index")
        if len(args) > 2 and not isinstance(args[2], Pretended) and args[2].ndim:
            raise DeviceMix(f"values of the CPU in {_place()}")
    elif name != "_to_copy":
        for other in others:
            # The engine fills in zeros for a gradient that nothing has given: of the CPU, since C++ knows better.
            filled_in = log.backward and not other.count_nonzero()
            if (other.ndim or other is args[0]) and not filled_in:
                raise DeviceMix(f"{name}: a tensor {tuple(other.shape)} of the CPU in {_place()}")


def _written(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """Return the result; of an operation in place, or into `out=`, the tensors that were given to it."""
    schema = func._schema
    written = {
        frozenset(argument.alias_info.before_set): kwargs.get(argument.name, args[place] if place < len(args) else None)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    if not written or not schema.returns:
        return tree_map(_pretended, result)
    results = result if isinstance(result, tuple) else (result,)
    back = [
        written[frozenset(returned.alias_info.before_set)]
        if returned.alias_info is not None and returned.alias_info.is_write
        else tree_map(_pretended, value)
        for value, returned in zip(results, schema.returns, strict=True)
    ]
    return tuple(back) if isinstance(result, tuple) else back[0]


class _Device(TorchFunctionMode):
    """Catches what names the device in Python: factories, copies to it and from it, generators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, log = dict(kwargs or {}), Pretended.log
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", "").startswith("reldrop."):  # one of our own that other modes see as a whole
            with self:
                return func.__wrapped__(*args, **kwargs)
        tensor = args[0] if args and isinstance(args[0], Tensor) else None
        ours = isinstance(tensor, Pretended)
        if ours and func in (Tensor.data_ptr, Tensor.untyped_storage):
            return func(tensor.inner)
        if func is Tensor.to:
            return _to(tensor, args[1:], kwargs)
        if func is Tensor.cuda:
            return upload(tensor)
        if ours and func in (Tensor.cpu, Tensor.tolist):
            log.wait(name)
            inner = tensor.detach().inner.clone()
            return inner if func is Tensor.cpu else inner.tolist()
        if ours and name in ("numpy", "__array__"):
            raise DeviceMix(f"numpy() of a tensor of the device in {_place()}")
        if ours and name == "new_tensor":
            log.wait("new_tensor")
            return Pretended(torch.tensor(args[1], dtype=kwargs.get("dtype") or tensor.dtype))
        if ours and name == "one_hot":  # it allocates by the device of C++
            log.launch(2)
            return Pretended(func(tensor.inner, *args[1:], **kwargs))
        on_device = _is_cuda(kwargs.get("device"))
        generator = kwargs.get("generator")
        if generator is not None and _is_cuda(generator.device) != (ours or on_device):
            raise DeviceMix(f"{name}: a generator of another device in {_place()}")
        if not on_device:
            return func(*args, **kwargs)
        if (ours and name.startswith("new_")) or name.endswith("_like"):
            del kwargs["device"]
            return func(*args, **kwargs)
        if name in ("tensor", "as_tensor"):
            log.wait(name)
        elif not name.startswith("empty"):
            log.launch()
        return tree_map(_pretended, func(*args, **kwargs | {"device": "cpu"}))


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _to(tensor: Tensor, words: Any, options: dict[str, Any]) -> Tensor:
    """`tensor.to(...)`, whatever was given."""
    device, dtype, flags = None, None, []
    for value in [*words, options.get("device"), options.get("dtype"), options.get("other")]:
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, bool):
            flags.append(value)
        elif isinstance(value, torch.device | str):
            device = torch.device(value)
    non_blocking = options.get("non_blocking", flags[0] if flags else False)
    copy = options.get("copy", flags[1] if len(flags) > 1 else False)
    layout = {key: value for key, value in options.items() if key == "memory_format"}
    if not isinstance(tensor, Pretended):
        if not _is_cuda(device):
            return tensor.to(*words, **options)
        result = upload(tensor, dtype, non_blocking)
        return result.contiguous(**layout) if layout else result
    if device is not None and not _is_cuda(device):
        if not non_blocking:
            Pretended.log.wait("a copy to the host")
        return tensor.detach().inner.to(dtype or tensor.dtype).clone()
    if dtype in (None, tensor.dtype) and not copy and not layout:
        return tensor
    return Tensor.to(tensor, dtype or tensor.dtype, copy=copy, **layout)


def upload(tensor: Tensor, dtype: torch.dtype | None = None, non_blocking: bool = False) -> Tensor:
    """Copy a tensor to the device."""
    if isinstance(tensor, Pretended):
        return tensor
    if not non_blocking:
        Pretended.log.wait("a copy to the device")
    return Pretended(tensor.detach().to(dtype or tensor.dtype).clone())


def _place() -> str:
    """Return the line of the package that asked for what happens now."""
    stack = [frame for frame in traceback.extract_stack() if Path(frame.filename) != HERE]
    own = [frame for frame in stack if frame.filename.startswith(PACKAGE)]
    frame = (own or stack)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.line})"


class _Generator(torch.Generator):
    """One that knows which device it was made for."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        self = super().__new__(cls, "cpu")
        self.made_for = torch.device(device)
        return self

    def __init__(self, device: Any = "cpu") -> None: ...

    device = property(lambda self: CUDA if self.made_for.type == "cuda" else torch.device("cpu"))


class _Event:
    """Where to wait for it is a wait if the device has been given nothing to do since."""

    def __init__(self, **options: Any) -> None: ...

    def record(self, stream: Any = None) -> None:
        self.launched = Pretended.log.launched

    def synchronize(self) -> None:
        if Pretended.log.launched == self.launched:
            Pretended.log.wait("an event")

    def elapsed_time(self, other: Any) -> float:
        return 1.0


class _Stream:
    def __init__(self, device: Any = None) -> None: ...
    def wait_stream(self, other: Any) -> None: ...


class _Autocast(torch.amp.autocast_mode.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if _is_cuda(device_type) else device_type, *args, **kwargs)


@contextmanager
def pretended_device() -> Iterator[Log]:
    """Let "cuda" be a device within the block; gives the log of what happens on it, empty at the start."""
    log = Pretended.log = Log()
    run, is_enabled, dtype = torch.autograd._engine_run_backward, torch.is_autocast_enabled, torch.get_autocast_dtype

    def run_backward(*args: Any, **kwargs: Any) -> Any:  # hooks and functions of our own run within
        outer, log.backward = log.backward, True
        try:
            with _Device():
                return run(*args, **kwargs)
        finally:
            log.backward = outer

    def on_cpu(function: Callable[[str], Any]) -> Callable[[str], Any]:
        return lambda kind="cuda": function("cpu" if kind == "cuda" else kind)

    def enter(mode: Any) -> None:
        mode.without = torch.no_grad()
        mode.without.__enter__()

    def leave(mode: Any, *error: Any) -> None:
        mode.without.__exit__(*error)

    patches = {
        torch: {"Generator": _Generator, "autocast": _Autocast},
        torch.amp: {"autocast": _Autocast},
        torch.inference_mode: {"__enter__": enter, "__exit__": leave},  # wrappers made in it cannot be viewed
        torch.autograd: {"_engine_run_backward": run_backward},
        torch.cuda: {
            "Event": _Event,
            "Stream": _Stream,
            "stream": lambda stream: nullcontext(),
            "current_stream": lambda device=None: _Stream(),
            "synchronize": lambda device=None: log.wait("synchronize"),
        },
        Tensor: {"record_stream": lambda self, stream: None, "pin_memory": lambda self: self},
    }
    with pytest.MonkeyPatch.context() as patch:
        for owner, replacements in patches.items():
            for name, value in replacements.items():
                patch.setattr(owner, name, value)
        patch.setattr(torch, "is_autocast_enabled", on_cpu(is_enabled))
        patch.setattr(torch, "get_autocast_dtype", on_cpu(dtype))
        with _Device():
            yield log


def move(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    """Do what module.to("cuda") does, in place; an optimizer keeps its parameters."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for key, old in part._parameters.items():
            if old is not None:
                moved.setdefault(id(old), nn.Parameter(Pretended(old.detach().clone()), old.requires_grad))
                part._parameters[key] = moved[id(old)]
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = Pretended(buffer.detach().clone())
    for group in optimizer.param_groups if optimizer else ():
        group["params"] = [moved[id(old)] for old in group["params"]]
        group["foreach"] = True  # the default for tensors of CUDA
    return module


class PretendedFabric:
    """What the trainer asks of Fabric, in one process on the device."""

    global_rank, world_size, is_global_zero, device = 0, 1, True, CUDA

    def __init__(self, precision: str = "32-true") -> None:
        self.dtype = {"32-true": None, "bf16-mixed": torch.bfloat16}[precision]

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        move(model, optimizer)
        return _Wrapped(model, self), optimizer

    def autocast(self) -> Any:
        return nullcontext() if self.dtype is None else torch.autocast("cuda", dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, module: nn.Module, optimizer: Any, max_norm: float, error_if_nonfinite: bool) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), max_norm, foreach=True)


class _Wrapped(nn.Module):
    def __init__(self, module: nn.Module, fabric: PretendedFabric) -> None:
        super().__init__()
        self.module, self.fabric = module, fabric

    def forward(self, inputs: Tensor) -> Tensor:
        with self.fabric.autocast():
            return self.module(inputs).float()

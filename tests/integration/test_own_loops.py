"""RelDrop in a training loop of one's own: it leaves the training alone, and needs no care."""

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution import GradientLRP
from reldrop.augmentation import RelDrop
from reldrop.utils.errors import ReldropError

ATTRIBUTIONS = ["gradient", "zennit", "input_gradient"]
SMALL_SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}


class Own(nn.Module):
    """A network as one writes it oneself: functions, a batch norm, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.dropout(F.relu(self.norm(self.stem(images))), 0.2, self.training)
        return self.head(hidden.mean((2, 3)))


def own() -> Own:
    torch.manual_seed(0)
    return Own()


def batch(side: int = 16) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, side, side, generator=draws), torch.randint(10, (8,), generator=draws)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


# ---- the training stays what it is --------------------------------------------------------------------------------------


def trained(attribution: str | None, steps: int = 20) -> dict[str, object]:
    """Return all that a training leaves, with relevance computed and thrown away at each step, or without."""
    model = own().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    reldrop = attribution and RelDrop(model, "block", attribution, probability=1.0)
    torch.manual_seed(3)
    for step in range(steps):
        inputs, targets = torch.randn(8, 3, 16, 16), torch.randint(10, (8,))
        loss = F.cross_entropy(model(inputs), targets)
        if reldrop and step % 2:  # also between forward and backward
            reldrop(inputs, targets, seeded())
        optimizer.zero_grad()
        loss.backward()
        if reldrop:
            reldrop(inputs, targets, seeded())
        optimizer.step()
    return {
        **model.state_dict(),
        **{
            f"{key}.{name}": value
            for key, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        },
        **{f"{name}.grad": parameter.grad for name, parameter in model.named_parameters()},
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_relevance_thrown_away_leaves_a_training_bit_for_bit(attribution: str) -> None:
    without, beside = trained(None), trained(attribution)
    assert without.keys() == beside.keys()
    for key, value in without.items():
        assert torch.equal(value, beside[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_memory_stays_constant_over_1000_steps(attribution: str) -> None:
    model = own()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    reldrop = RelDrop(model, "block", attribution, probability=1.0)
    inputs, targets = batch()

    def tensors_after(steps: int) -> int:
        for _ in range(steps):
            loss = F.cross_entropy(model(reldrop(inputs, targets)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    gc.collect()
    gc.disable()  # what only the garbage collector frees, piles up between its runs
    try:
        assert tensors_after(10) == tensors_after(1000)
    finally:
        gc.enable()


# ---- wrapped, compiled, in half precision -------------------------------------------------------------------------------


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


WRAPPERS = {
    "compile": lambda model: torch.compile(model, backend="eager"),
    "data_parallel": nn.DataParallel,
    "ddp": nn.parallel.DistributedDataParallel,
    "compiled_ddp": lambda model: torch.compile(nn.parallel.DistributedDataParallel(model), backend="eager"),
}


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrapped_networks_give_the_same_masks(
    wrap: Callable[[nn.Module], nn.Module], attribution: str, tmp_path: Path
) -> None:
    inputs, targets = batch()
    with one_process(tmp_path):
        model = own()
        wrapped = wrap(model)
        bare, reldrop = (RelDrop(each, "block", attribution, probability=1.0) for each in (model, wrapped))
        for _ in range(2):
            expected, found = (each(inputs, targets, seeded()) for each in (bare, reldrop))
            assert torch.equal(found, expected)
            assert not torch.equal(found, inputs)
            F.cross_entropy(wrapped(found), targets).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_bfloat16_autocast(attribution: str) -> None:
    inputs, targets = batch()
    model = own()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reldrop = RelDrop(model, "block", attribution, probability=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            occluded = reldrop(inputs, targets, seeded())
            loss = F.cross_entropy(model(occluded), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert occluded.dtype == torch.float32
    assert not torch.equal(occluded, inputs)
    assert loss.isfinite()


# ---- a module ------------------------------------------------------------------------------------------------------------


def test_the_network_is_no_submodule() -> None:
    model = own()
    before = list(model.state_dict())
    model.reldrop = RelDrop(model)
    assert list(model.state_dict()) == before
    assert not list(model.reldrop.parameters())
    assert len(list(model.modules())) == 5
    inputs, targets = batch()
    assert model.train().reldrop(inputs, targets) is not inputs
    assert model.eval().reldrop(inputs, targets) is inputs


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("attribution", [*ATTRIBUTIONS, "release", "random", "center"])
def test_copies(copied: Callable[[nn.Module], nn.Module], attribution: str) -> None:
    inputs, targets = batch()
    model = own()
    pair = nn.ModuleList([model, RelDrop(model, "block", attribution, probability=1.0)])
    pair[1](inputs, targets, seeded())
    twin = copied(pair)
    assert torch.equal(twin[1](inputs, targets, seeded()), pair[1](inputs, targets, seeded()))
    assert twin[1].model is twin[0]
    assert twin[0] is not model


def test_a_copy_keeps_the_settings_of_an_attribution_given_as_object() -> None:
    inputs, targets = batch()
    reldrop = RelDrop(own(), "pixel", GradientLRP(epsilon=0.5, input_rule="wsquare"), probability=1.0)
    expected = reldrop(inputs, targets, seeded())
    twin = copy.deepcopy(reldrop)
    assert twin.attribution is not reldrop.attribution
    assert torch.equal(twin(inputs, targets, seeded()), expected)
    assert not torch.equal(RelDrop(own(), "pixel", probability=1.0)(inputs, targets, seeded()), expected)


@pytest.mark.parametrize("attribution", ATTRIBUTIONS[1:])
def test_probabilities_are_for_the_gradient_only(attribution: str) -> None:
    inputs, _ = batch()
    soft = torch.rand(8, 10, generator=seeded()).softmax(1)
    with pytest.raises(ReldropError, match=r"targets of shape \(8, 10\) are probabilities"):
        RelDrop(own(), attribution=attribution)(inputs, soft)
    assert not torch.equal(RelDrop(own(), probability=1.0)(inputs, soft), inputs)


def test_probabilities_of_one_class_are_this_class() -> None:
    inputs, targets = batch()
    reldrop = RelDrop(own(), probability=1.0)
    hard, soft = (reldrop(inputs, each, seeded()) for each in (targets, F.one_hot(targets, 10).float()))
    assert torch.equal(hard, soft)


# ---- networks ------------------------------------------------------------------------------------------------------------

NETWORKS = {
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=10),
    "swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, **SMALL_SWIN),
    "own": own,
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("mode", ["block", "patch", "pixel"])
def test_networks(network: Callable[[], nn.Module], mode: str) -> None:
    torch.manual_seed(0)
    model = network()
    inputs, targets = batch(32)
    reldrop = RelDrop(model, mode, probability=1.0, **{"k": 16} if mode == "patch" else {})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        occluded = reldrop(inputs, targets)
        loss = F.cross_entropy(model(occluded), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        hidden = (occluded != inputs).any(1).double().mean()
        assert 0 < hidden < 1
    assert all(torch.tensor(losses).isfinite())

"""Recycled relevance: what a training step leaves behind, where it is kept, and how it is used at the next visit."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_train import QUICK, assert_same_run, config, fails
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, Recycled
from reldrop.attribution.recycled import Memory
from reldrop.data.images import ImageData, ImageSplit, Visit
from reldrop.data.transforms import Crops, crop_and_flip, crop_back, draw_crops
from reldrop.loop import Loop
from reldrop.runs import run_folder
from reldrop.train import train


def images(count: int = 12, size: int = 16, padding: int = 2) -> ImageData:
    draws = torch.Generator().manual_seed(0)
    split = ImageSplit(
        torch.randint(256, (count, 3, size, size), generator=draws, dtype=torch.uint8),
        torch.randint(10, (count,), generator=draws),
    )
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    names = tuple("abcdefghij")
    return ImageData(
        "noise", names, size, **statistics, source="", train=split, test=split, crop_padding=padding, flip=True
    )


# ---- coordinates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_crops_are_put_back_to_where_they_were(padding: int) -> None:
    """Against plain loops: each pixel of a crop goes to the pixel of the image that it shows."""
    draws = torch.Generator().manual_seed(padding)
    crops = draw_crops(20, padding, True, draws)
    maps, whole = torch.randn(20, 5, 6, generator=draws), torch.randn(20, 5, 6, generator=draws)
    expected = whole.clone()
    for image in range(20):
        for row in range(5):
            for column in range(6):
                shown = 5 - column if crops.flipped[image] else column
                place = row + int(crops.top[image]) - padding, shown + int(crops.left[image]) - padding
                if 0 <= place[0] < 5 and 0 <= place[1] < 6:
                    expected[image, place[0], place[1]] = maps[image, row, column]
    assert torch.equal(crop_back(maps, crops, padding, whole), expected)


def test_an_image_comes_back_from_its_crop() -> None:
    draws = torch.Generator().manual_seed(0)
    crops = draw_crops(50, 4, True, draws)
    pictures = torch.randn(50, 1, 8, 8, generator=draws)
    back = crop_back(crop_and_flip(pictures, crops, 4)[:, 0], crops, 4, pictures[:, 0])
    assert torch.equal(back, pictures[:, 0])


# ---- what a step leaves behind ---------------------------------------------------------------------------------------------


def plain_relevance(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The definition, one pass after another: the stem, the rest of the network on its output, and the Flat rule by hand."""
    model = deepcopy(model).double().train()
    rest = deepcopy(model)
    rest.conv1 = nn.Identity()
    output = model.conv1(inputs.double()).detach().requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(rest(output), targets), output)
    relevance = -(output * grad).sum(1).detach()
    maps = torch.zeros_like(inputs[:, 0], dtype=torch.float64)
    height, width = maps.shape[1:]
    for row in range(height):
        for column in range(width):
            rows = slice(max(0, row - 1), min(height, row + 2))  # the stem is 3 x 3 with padding 1
            columns = slice(max(0, column - 1), min(width, column + 2))
            field = maps[:, rows, columns]
            field += relevance[:, row, column, None, None] / (field.shape[1] * field.shape[2])
    return maps


def test_the_training_step_leaves_the_relevance_behind_its_stem(tiny: nn.Module) -> None:
    data = images()
    memory = Recycled().memory(tiny, data)
    ((inputs, targets, visit),) = data.train_visits(0, batch_size=12, seed=0)
    expected = plain_relevance(tiny, inputs, targets)
    with memory.watching(visit):
        loss = F.cross_entropy(tiny.train()(inputs), targets)
    loss.backward()
    found = memory.recall(visit, torch.Generator())
    shown = crop_and_flip(torch.ones(12, 1, 16, 16), visit.crops, 2)[:, 0] == 1
    scaled = expected / expected.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(found.double()[shown], scaled[shown], rtol=2e-3, atol=2e-3)  # half precision
    assert not found[~shown].any()  # black borders are no part of the image


def test_the_step_itself_is_not_changed(tiny: nn.Module) -> None:
    data, other = images(), deepcopy(tiny)
    ((inputs, targets, visit),) = data.train_visits(0, batch_size=12, seed=0)
    F.cross_entropy(other.train()(inputs), targets).backward()
    with Recycled().memory(tiny, data).watching(visit):
        loss = F.cross_entropy(tiny.train()(inputs), targets)
    loss.backward()
    for one, two in zip(tiny.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
    assert not tiny.conv1._forward_hooks


class OnePatch(nn.Module):
    """Looks at rows and columns from 4 to 8 only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(torch.relu(self.conv(x))[:, :, 4:8, 4:8], 1))


def test_relevance_stays_with_what_the_network_looks_at_in_any_crop() -> None:
    data, model = images(padding=0), OnePatch()
    memory = Memory(model.conv, data, 1e-6)
    ((inputs, targets, visit),) = data.train_visits(0, batch_size=12, seed=0)
    with memory.watching(visit):
        loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    here = visit.images, slice(4, 8), torch.where(visit.crops.flipped, 8, 4)[:, None] + torch.arange(4)
    for image, start in zip(visit.images, here[2][:, 0], strict=True):
        inside = memory.maps[image, 4:8, start : start + 4].abs().sum()
        assert inside > 0
        assert memory.maps[image].abs().sum() == inside
    turned = Visit(visit.images, Crops(visit.crops.top, visit.crops.left, ~visit.crops.flipped))
    assert torch.equal(memory.recall(turned, torch.Generator()), memory.recall(visit, torch.Generator()).flip(-1))


def test_what_was_not_seen_is_noise_and_a_gradient_of_zero_teaches_nothing(tiny: nn.Module) -> None:
    data = images()
    memory = Recycled().memory(tiny, data)
    ((inputs, _, visit), _) = data.train_visits(0, batch_size=6, seed=0)
    with memory.watching(visit):
        logits = tiny.eval()(
            inputs
        )  # in training mode, batch norm would let samples have a part in each other's logits
    logits[:3, 0].sum().backward()
    assert memory.known[visit.images].tolist() == [True] * 3 + [False] * 3
    noise = memory.recall(visit, torch.Generator().manual_seed(1))[3:]
    assert 0 <= noise.min() < 0.05
    assert 0.95 < noise.max() < 1
    assert noise.unique().numel() > 700
    assert torch.equal(noise, memory.recall(visit, torch.Generator().manual_seed(1))[3:])
    assert not torch.equal(noise, memory.recall(visit, torch.Generator().manual_seed(2))[3:])


def test_evaluations_take_the_relevance_of_the_paper(tiny: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(Recycled()(tiny, *batch), GradientLRP()(tiny, *batch))


# ---- in training -----------------------------------------------------------------------------------------------------------

RUN = [*QUICK, "attribution=recycled", "augmentation=reldrop_block", "augmentation.probability=1.0"]


def test_images_are_occluded_where_their_last_visit_was_relevant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, float]] = []
    recall = Memory.recall

    def watch(self: Memory, visit: Visit, generator: torch.Generator) -> Tensor:
        seen.append((bool(self.known[visit.images].all()), float(self.known.float().mean())))
        return recall(self, visit, generator)

    monkeypatch.setattr(Memory, "recall", watch)
    cfg = config(tmp_path, *RUN)
    summary = train(cfg)
    steps = summary["steps"] // cfg.trainer.epochs
    assert [known for known, _ in seen] == [False] * steps + [True] * (len(seen) - steps)
    assert len(seen) == summary["steps"]


def test_an_interrupted_run_goes_on_with_what_it_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = config(tmp_path / "whole", *RUN), config(tmp_path / "broken", *RUN, "trainer.checkpoint_every=3")
    train(whole)
    steps, update = [], Loop._update

    def stop(self: Loop, loss: Tensor) -> None:
        steps.append(self.step)
        if len(steps) == 9:
            raise KeyboardInterrupt
        update(self, loss)

    monkeypatch.setattr(Loop, "_update", stop)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    train(broken)
    assert_same_run(run_folder(broken), run_folder(whole))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.compile=true"], "attribution=recycled does not go with trainer.compile; take attribution=gradient"),
        (["trainer.eval_after_attribution=true"], "does not go with trainer.eval_after_attribution"),
        (["+attribution.epsilon=0.1"], "attribution.epsilon is not a setting"),
    ],
)
def test_what_it_does_not_go_with(tmp_path: Path, overrides: list[str], message: str) -> None:
    assert message in fails(tmp_path, *RUN, *overrides)


def test_it_is_for_images_in_memory(tmp_path: Path) -> None:
    points = ["+experiment=shapes_pointnet", "attribution=recycled", "dataset.subset=20", "dataset.test_subset=10"]
    assert "keeps relevance for whole images in memory" in fails(tmp_path, *points)

"""Coordinates."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, Recycled
from reldrop.attribution.recycled import RelevanceCache
from reldrop.data.base import Batch
from reldrop.data.images.batch_crops import Crops, crop_and_flip, crop_back, draw_crops
from reldrop.data.images.dataset import ImageData, ImageSplit


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
    cache = Recycled().cache(tiny, data)
    (batch,) = data.train_batches(0, batch_size=12, seed=0)
    rows = torch.arange(12)
    expected = plain_relevance(tiny, batch.inputs, batch.targets)
    learn(cache, batch, lambda: F.cross_entropy(tiny.train()(batch.inputs), batch.targets))
    found = cache.get(batch, rows, torch.Generator())
    shown = crop_and_flip(torch.ones(12, 1, 16, 16), batch.crops, 2)[:, 0] == 1
    scaled = expected / expected.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(found.double()[shown], scaled[shown], rtol=2e-3, atol=2e-3)  # half precision
    assert not found[~shown].any()  # black borders are no part of the image
    some = rows[[7, 2]]
    assert torch.equal(cache.get(batch, some, torch.Generator()), found[some])


def test_the_step_itself_is_not_changed(tiny: nn.Module) -> None:
    data, other = images(), deepcopy(tiny)
    (batch,) = data.train_batches(0, batch_size=12, seed=0)
    F.cross_entropy(other.train()(batch.inputs), batch.targets).backward()
    cache = Recycled().cache(tiny, data)
    learn(cache, batch, lambda: F.cross_entropy(tiny.train()(batch.inputs), batch.targets))
    for one, two in zip(tiny.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
    known = cache.known.clone(), cache.maps.clone()
    F.cross_entropy(tiny(batch.inputs), batch.targets).backward()  # no step of the training
    assert torch.equal(cache.known, known[0])
    assert torch.equal(cache.maps, known[1])


def learn(cache: RelevanceCache, batch: Batch, loss: Callable[[], Tensor]) -> None:
    """Do what a step of the training does with a cache."""
    cache.before_step(None, batch)
    loss().backward()
    cache.after_step(None, None)


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
    cache, rows = RelevanceCache(model.conv, data, 1e-6), torch.arange(12)
    (batch,) = data.train_batches(0, batch_size=12, seed=0)
    learn(cache, batch, lambda: F.cross_entropy(model(batch.inputs), batch.targets))
    starts = torch.where(batch.crops.flipped, 8, 4)
    for image, start in zip(batch.items, starts, strict=True):
        inside = cache.maps[image, 4:8, start : start + 4].abs().sum()
        assert inside > 0
        assert cache.maps[image].abs().sum() == inside
    turned = batch._replace(crops=Crops(batch.crops.top, batch.crops.left, ~batch.crops.flipped))
    assert torch.equal(cache.get(turned, rows, torch.Generator()), cache.get(batch, rows, torch.Generator()).flip(-1))


def test_what_was_not_seen_is_noise_and_a_gradient_of_zero_teaches_nothing(tiny: nn.Module) -> None:
    data, rows = images(), torch.arange(6)
    cache = Recycled().cache(tiny, data)
    batch, _ = data.train_batches(0, batch_size=6, seed=0)
    # In training mode, batch norm would let samples have a part in each other's logits.
    learn(cache, batch, lambda: tiny.eval()(batch.inputs)[:3, 0].sum())
    assert cache.known[batch.items].tolist() == [True] * 3 + [False] * 3
    noise = cache.get(batch, rows, torch.Generator().manual_seed(1))[3:]
    assert 0 <= noise.min() < 0.05
    assert 0.95 < noise.max() < 1
    assert noise.unique().numel() > 700
    assert torch.equal(noise, cache.get(batch, rows, torch.Generator().manual_seed(1))[3:])
    assert not torch.equal(noise, cache.get(batch, rows, torch.Generator().manual_seed(2))[3:])


def test_evaluations_take_the_relevance_of_the_paper(tiny: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(Recycled()(tiny, *batch), GradientLRP()(tiny, *batch))

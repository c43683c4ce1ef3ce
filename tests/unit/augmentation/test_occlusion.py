"""Against a plain loop."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reldrop.augmentation import (
    Fill,
    NoAugmentation,
    RandomErasing,
    RelDrop,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
)
from reldrop.augmentation.masks import MAX_DRAWS, draw_sizes
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import device_generator

SIZE = (20, 28)


def of(inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """A relevance that depends on the image only."""
    return lambda rows: inputs[rows].sum(1)


def data(count: int = 40, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *size, generator=draws), torch.zeros(count, dtype=torch.long)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_fitting(share: Tensor, ratio: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    for a, r in zip(share.tolist(), ratio.tolist(), strict=True):
        pixels = a * size[0] * size[1]
        height, width = max(1, round(math.sqrt(pixels * r))), max(1, round(math.sqrt(pixels / r)))
        if height < size[0] and width < size[1]:
            return height, width
    return 0, 0


def sizes_by_loop(
    count: int, rectangles: int, scale: tuple[float, float], ratio: float, draws: torch.Generator
) -> list[list[tuple[int, int]]]:
    share = torch.empty(count, rectangles, MAX_DRAWS).uniform_(*scale, generator=draws)
    log = torch.empty(count, rectangles, MAX_DRAWS).uniform_(math.log(ratio), -math.log(ratio), generator=draws)
    return [[first_fitting(share[i, j], log[i, j].exp(), SIZE) for j in range(rectangles)] for i in range(count)]


def paint(mask: Tensor, top: int, left: int, height: int, width: int) -> None:
    mask[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = True


def centered(mask: Tensor, position: int, height: int, width: int) -> None:
    row, column = divmod(position, SIZE[1])
    paint(mask, row - height // 2, column - width // 2, height, width)


# ---- against a plain loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10])
def test_block_equals_a_loop(k: int) -> None:
    inputs, _ = data()
    found = RelDropBlock(probability=1.0, k=k).mask(inputs, of(inputs), seeded())
    draws = seeded()
    torch.rand(len(inputs), generator=draws)  # the coins
    sizes = sizes_by_loop(len(inputs), 1, (0.02, 0.4), 0.3, draws)
    chosen = torch.randint(k, (len(inputs), 1), generator=draws)
    expected = torch.zeros(len(inputs), *SIZE, dtype=torch.bool)
    for i, image in enumerate(inputs):
        order = image.sum(0).flatten().sort(descending=True).indices
        centered(expected[i], int(order[chosen[i, 0]]), *sizes[i][0])
    assert torch.equal(found, expected)


def test_patch_equals_a_loop_and_places_all_rectangles() -> None:
    inputs, _ = data()
    found = RelDropPatch(probability=1.0, k=4).mask(inputs, of(inputs), seeded())
    draws = seeded()
    torch.rand(len(inputs), generator=draws)
    sizes = sizes_by_loop(len(inputs), 4, (0.02 / 4, 0.4 / 4), 0.3, draws)
    expected = torch.zeros(len(inputs), *SIZE, dtype=torch.bool)
    for i, image in enumerate(inputs):
        order = image.sum(0).flatten().sort(descending=True).indices
        for j in range(4):
            centered(expected[i], int(order[j]), *sizes[i][j])
    assert torch.equal(found, expected)


def test_some_rectangles_of_a_patch_are_drawn_uniformly_from_the_most_relevant() -> None:
    maps = torch.zeros(6000, 9, 9)
    corners = [(1, 1), (1, 7), (7, 1), (7, 7)]
    for rank, (row, column) in enumerate(corners):
        maps[:, row, column] = 4.0 - rank
    patch = RelDropPatch(probability=1.0, k=4, rectangles=1, scale=(0.05, 0.05), ratio=1.0)
    mask = patch.mask(maps[:, None], of(maps[:, None]), seeded())
    counts = torch.stack([mask[:, row, column].sum() for row, column in corners])
    assert mask.any(dim=(1, 2)).all()
    assert counts.sum() == 6000  # one each
    assert (counts - 1500).abs().max() < 5 * (6000 * 0.25 * 0.75) ** 0.5


def test_random_erasing_equals_a_loop_and_stays_inside() -> None:
    inputs, _ = data()
    found = RandomErasing(probability=1.0).mask(inputs, None, seeded())
    draws = seeded()
    torch.rand(len(inputs), generator=draws)
    sizes = sizes_by_loop(len(inputs), 1, (0.02, 0.4), 0.3, draws)
    rows, columns = (torch.rand(len(inputs), 1, generator=draws) for _ in range(2))
    expected = torch.zeros(len(inputs), *SIZE, dtype=torch.bool)
    for i in range(len(inputs)):
        height, width = sizes[i][0]
        top = int(rows[i, 0] * (SIZE[0] - height + 1))
        left = int(columns[i, 0] * (SIZE[1] - width + 1))
        paint(expected[i], top, left, height, width)
        assert expected[i].sum() == height * width
    assert torch.equal(found, expected)


def test_pixel_equals_a_loop() -> None:
    inputs, _ = data()
    found = RelDropPixel(probability=1.0, alpha=0.3, beta=0.5).mask(inputs, of(inputs), seeded())
    draws = seeded()
    torch.rand(len(inputs), generator=draws)
    noise = torch.rand(len(inputs), *SIZE, generator=device_generator(draws, inputs.device))
    for i, image in enumerate(inputs):
        r = image.sum(0)
        r = (r - r.min()) / (r.max() - r.min())
        assert torch.equal(found[i], 0.3 * noise[i] + 0.7 * r >= 0.5)


def test_pixel_takes_a_constant_map_as_irrelevant() -> None:
    inputs = torch.zeros(3, 3, 8, 8)
    mask = RelDropPixel(probability=1.0, alpha=0.4, beta=0.5).mask(inputs, of(inputs), seeded())
    assert not mask.any()
    assert RelDropPixel(probability=1.0, alpha=0.0, beta=1.0).mask(inputs, of(inputs), seeded()).all()


# ---- the law ----------------------------------------------------------------------------------------------------------


def test_sizes_follow_the_law() -> None:
    size = (200, 200)
    heights, widths = draw_sizes((20000,), size, (0.02, 0.2), 0.3, seeded())
    area = (heights * widths).double() / (200 * 200)
    ratio = (heights.double() / widths).log()
    assert (heights < 200).all()
    assert (widths < 200).all()
    # Up to this area all shapes fit, so that none is drawn again: uniform area, log-uniform aspect.
    assert abs(area.mean() - 0.11) < 0.002
    assert abs(area.std() - 0.18 / math.sqrt(12)) < 0.002
    assert area.min() > 0.02 * 0.97  # sides are whole pixels
    assert area.max() < 0.2 * 1.03
    assert abs(ratio.mean()) < 0.02
    assert abs(ratio.std() - 2 * math.log(1 / 0.3) / math.sqrt(12)) < 0.02


def test_nothing_is_occluded_where_no_draw_fits() -> None:
    heights, widths = draw_sizes((5,), (3, 3), (1.0, 1.0), 1.0, seeded())
    assert (heights == 0).all()
    assert (widths == 0).all()
    inputs, _ = data(4, (3, 3))
    assert not RelDropBlock(probability=1.0, scale=(1.0, 1.0), ratio=1.0).mask(inputs, of(inputs), seeded()).any()


def test_block_covers_the_most_relevant_pixel() -> None:
    inputs, _ = data()
    mask = RelDropBlock(probability=1.0, k=1).mask(inputs, of(inputs), seeded())
    top = inputs.sum(1).flatten(1).argmax(1)
    assert mask.flatten(1).gather(1, top[:, None]).all()


# ---- coins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [RelDropBlock, RelDropPatch, RelDropPixel])
def test_relevance_is_computed_only_for_what_is_occluded(augmentation: type) -> None:
    inputs, _ = data(200)
    asked: list[Tensor] = []

    def relevance(rows: Tensor) -> Tensor:
        asked.append(rows)
        return inputs[rows].sum(1)

    mask = augmentation(probability=0.3, **({"beta": 0.9} if augmentation is RelDropPixel else {})).mask(
        inputs, relevance, seeded()
    )
    assert len(asked) == 1
    assert torch.equal(mask.flatten(1).any(1).nonzero()[:, 0], asked[0])
    assert 40 < len(asked[0]) < 80


def test_one_coin_for_the_batch() -> None:
    inputs, _ = data(8)
    shares = {
        int(
            RelDropBlock(probability=0.5, decide_per="batch")
            .mask(inputs, of(inputs), seeded(s))
            .flatten(1)
            .any(1)
            .sum()
        )
        for s in range(20)
    }
    assert shares == {0, 8}


def test_probability_zero_asks_for_nothing() -> None:
    inputs, targets = data(8)

    def fail(rows: Tensor) -> Tensor:
        raise AssertionError

    occluded, classes = RelDropBlock(probability=0.0)(inputs, targets, fail, seeded())
    assert torch.equal(occluded, inputs)
    assert classes is targets
    unchanged = NoAugmentation()(inputs, targets)
    assert unchanged[0] is inputs
    assert unchanged[1] is targets


def test_same_generator_same_result_and_inputs_stay() -> None:
    inputs, targets = data()
    before = inputs.clone()
    for augmentation in (RandomErasing(), RelDropBlock(), RelDropPatch(), RelDropPixel(), RelDropBlock(fill="noise")):
        first, classes = augmentation(inputs, targets, of(inputs), seeded())
        assert classes is targets
        state = torch.get_rng_state()
        assert torch.equal(first, augmentation(inputs, targets, of(inputs), seeded())[0])
        assert torch.equal(state, torch.get_rng_state())
        assert not torch.equal(first, augmentation(inputs, targets, of(inputs), seeded(6))[0])
        assert torch.equal(before, inputs)


# ---- fills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [0.0, 0.0, 0.0]),
        ("zero", [-0.5 / 0.25, -0.4 / 0.2, -0.3 / 0.1]),
        ("raw_mean", [0.5, 0.4, 0.3]),
        ([255, 1, 2.5], [255.0, 1.0, 2.5]),
    ],
)
def test_fills(kind: object, expected: list[float]) -> None:
    inputs, _ = data(4)
    mask = torch.rand(4, *SIZE, generator=seeded()) < 0.5
    found = Fill(kind, ((0.5, 0.4, 0.3), (0.25, 0.2, 0.1)))(inputs, mask)
    for channel, value in enumerate(expected):
        torch.testing.assert_close(found[:, channel][mask], torch.full((int(mask.sum()),), value))
        assert torch.equal(found[:, channel][~mask], inputs[:, channel][~mask])


def test_noise_fill_is_standard_normal() -> None:
    inputs = torch.zeros(8, 3, 64, 64)
    found = Fill("noise")(inputs, torch.ones(8, 64, 64, dtype=torch.bool), seeded())
    assert abs(found.mean()) < 0.01
    assert abs(found.std() - 1) < 0.01


# ---- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: RelDropBlock(probability=1.5), "probability"),
        (lambda: RelDropBlock(k=0), "k=0 must be at least 1"),
        (lambda: RelDropBlock(scale=(0.4, 0.02)), "scale"),
        (lambda: RandomErasing(ratio=0.0), "ratio=0.0 must be above 0"),
        (lambda: RandomErasing(decide_per="dice"), "decide_per"),
        (lambda: RelDropPatch(k=3, rectangles=4), "rectangles"),
        (lambda: RelDropPixel(alpha=-0.1), "alpha"),
        (lambda: RelDropPixel(beta=2), "beta"),
        (lambda: RelDropPixel(fill="grey"), "fill"),
        (lambda: RelDropPixel(fill="zero"), "normalization"),
        (lambda: RelDrop(nn.Identity(), mode="blocks"), "mode"),
        (lambda: RelDropBlock(probability=1.0)(*data(2)), "relevance"),
        (
            lambda: RelDropBlock(probability=1.0, k=1000)(*data(2), of(data(2)[0])),
            "k=1000 must be at most the 560 pixels",
        ),
        (lambda: RandomErasing(probability=1.0, fill=[1, 2])(*data(2)), "3 channels"),
    ],
)
def test_mistakes_are_named(build: object, names: str) -> None:
    with pytest.raises(ReldropError, match=re.escape(names)):
        build()

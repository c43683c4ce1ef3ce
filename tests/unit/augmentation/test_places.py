"""Where rectangles and balls go: against a plain loop over all places."""

import pytest
import torch
from torch import Tensor

from reldrop.augmentation import RandomBall, RandomErasing, RelDropBall, RelDropBlock, RelDropPatch
from reldrop.augmentation.masks import best_places, nonnegative, place, window_sums
from tests.helpers.point_networks import clouds

H, W = 11, 14


def whole_maps(count: int = 30) -> Tensor:
    """Maps of small whole numbers, whose sums are exact and often equal."""
    return torch.randint(-4, 5, (count, H, W), generator=torch.Generator().manual_seed(0)).float()


def sides(count: int, columns: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randint(1, side, (count, columns), generator=rng) for side in (H, W))


def start(center: int, length: int, side: int, inside: bool) -> int:
    first = center - length // 2
    return min(max(first, 0), side - length) if inside else first


def by_loop(values: Tensor, sizes: list[tuple[int, int]], inside: bool) -> list[tuple[int, int]]:
    """The best places of one map, each at least half a rectangle from those before it."""
    found: list[tuple[int, int]] = []
    for height, width in sizes:
        scores = {}
        for row in range(H):
            for column in range(W):
                top, left = start(row, height, H, inside), start(column, width, W, inside)
                hidden = values[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
                scores.setdefault((top, left), hidden.sum().item())
        apart = {
            (top, left): score
            for (top, left), score in scores.items()
            if all(2 * abs(top - a) >= height or 2 * abs(left - b) >= width for a, b in found)
        }
        scores = apart or scores
        found.append(max(scores, key=lambda key: scores[key]))  # of equal ones the first
    return found


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("k", [1, 4])
def test_the_best_places_equal_a_loop_over_all(k: int, inside: bool) -> None:
    maps = whole_maps()
    heights, widths = sides(len(maps))
    top, left = best_places(maps, k, heights, widths, inside)
    for i, values in enumerate(nonnegative(maps)):
        expected = by_loop(values, [(int(heights[i]), int(widths[i]))] * k, inside)
        assert list(zip(top[i].tolist(), left[i].tolist(), strict=True)) == expected


def test_each_place_has_the_size_that_was_drawn_for_it() -> None:
    maps = whole_maps()
    heights, widths = sides(len(maps), 3)
    top, left = best_places(maps, 5, heights, widths)
    assert top.shape == (len(maps), 3)
    for i, values in enumerate(nonnegative(maps)):
        sizes = list(zip(heights[i].tolist(), widths[i].tolist(), strict=True))
        assert list(zip(top[i].tolist(), left[i].tolist(), strict=True)) == by_loop(values, sizes, False)


def test_sums_over_windows_are_exact() -> None:
    """Whole numbers of very different size, which float32 would round."""
    maps = torch.randint(-(2**40), 2**40, (5, H, W), generator=torch.Generator().manual_seed(0)).double()
    top, left = torch.arange(-3, H).expand(5, -1), torch.arange(-3, W).expand(5, -1)
    height, width = torch.tensor([[1], [2], [5], [10], [0]]), torch.tensor([[3], [1], [14], [0], [2]])
    found = window_sums(window_sums(maps, 1, top, height), 2, left, width)
    for i in range(5):
        for a, row in enumerate(top[i].tolist()):
            for b, column in enumerate(left[i].tolist()):
                ends = max(0, row + int(height[i])), max(0, column + int(width[i]))
                assert found[i, a, b] == maps[i, max(0, row) : ends[0], max(0, column) : ends[1]].sum()


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["equal", "negative", "no positive value", "all zero"])
def test_ties_and_maps_without_positive_values(kind: str, inside: bool) -> None:
    maps = torch.zeros(1, H, W)
    if kind == "equal":
        maps[0, 2, 3] = maps[0, 8, 10] = 1.0
    elif kind == "negative":
        maps -= 1
        maps[0, 5, 6] = 3.0
    elif kind == "no positive value":
        maps -= 5
        maps[0, 5, 6] = 0.0
    mask = place(maps, 1, torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1), 3), torch.full((1, 1), 3), "block",
                 "inside" if inside else "clip")  # fmt: skip
    if kind == "equal":  # the first in reading order
        assert mask[0, 2, 3]
        assert not mask[0, 8, 10]
    elif kind == "all zero":
        assert mask[0, 0, 0]
    else:
        assert mask[0, 5, 6]


def test_a_rectangle_inside_hides_what_was_drawn() -> None:
    inputs = torch.randn(60, 3, H, W, generator=torch.Generator().manual_seed(0))

    def hidden(augmentation: RelDropBlock | RandomErasing) -> Tensor:
        mask = augmentation.mask(inputs, lambda rows: inputs[rows].sum(1), torch.Generator().manual_seed(2))
        return mask.flatten(1).sum(1)

    drawn = hidden(RandomErasing(probability=1.0))
    for place_by in ("pixel", "block"):
        inside = RelDropBlock(probability=1.0, place_by=place_by, border="inside")
        clipped = RelDropBlock(probability=1.0, place_by=place_by)
        assert torch.equal(hidden(inside), drawn)  # the same draws of area and aspect
        assert (hidden(clipped) <= drawn).all()
    assert hidden(RelDropBlock(probability=1.0)).sum() < 0.95 * drawn.sum()


def test_a_block_by_its_sum_hides_more_relevance() -> None:
    maps = torch.randn(50, 32, 32, generator=torch.Generator().manual_seed(0))
    images = maps[:, None].expand(-1, 3, -1, -1)

    def share(place_by: str, k: int = 1) -> Tensor:
        block = RelDropBlock(probability=1.0, place_by=place_by, border="inside", k=k)
        mask = block.mask(images, lambda rows: maps[rows], torch.Generator().manual_seed(2))
        return (maps.clamp(min=0) * mask).flatten(1).sum(1)

    assert (share("block") >= share("pixel") - 1e-4).all()
    assert (share("block") >= share("block", k=3) - 1e-4).all()
    assert share("block").mean() > 1.05 * share("pixel").mean()


def test_patches_by_their_sums_are_apart() -> None:
    maps = torch.rand(40, 32, 32, generator=torch.Generator().manual_seed(0))
    images = maps[:, None].expand(-1, 3, -1, -1)

    def hidden(place_by: str) -> Tensor:
        patch = RelDropPatch(probability=1.0, k=4, place_by=place_by, border="inside", scale=(0.3, 0.3), ratio=1.0)
        return patch.mask(images, lambda rows: maps[rows], torch.Generator().manual_seed(2)).float().mean()

    assert hidden("block") > hidden("pixel")


def test_no_draw_that_fits_hides_nothing() -> None:
    inputs = torch.randn(4, 3, 3, 3)
    block = RelDropBlock(probability=1.0, scale=(1.0, 1.0), ratio=1.0, place_by="block", border="inside")
    assert not block.mask(inputs, lambda rows: inputs[rows].sum(1), torch.Generator().manual_seed(0)).any()


# ---- balls ------------------------------------------------------------------------------------------------------------


def test_the_best_ball_equals_a_loop() -> None:
    inputs = clouds(6, dtype=torch.float32)
    relevance = torch.randint(-3, 4, inputs.shape[:2], generator=torch.Generator().manual_seed(3)).float()
    augmentation = RelDropBall(probability=1.0, centers=inputs.shape[1])
    found = augmentation.mask(inputs, lambda rows: relevance[rows], torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    torch.rand(6, generator=draws)  # the coins
    shares = torch.empty(6, 1).uniform_(0.02, 0.4, generator=draws)[:, 0]
    for cloud, values, mask, share in zip(inputs, relevance, found, shares, strict=True):
        count = max(1, round(float(share) * len(cloud)))
        assert mask.sum() == count
        most = 0.0
        for center in cloud[:, :3]:
            near = (cloud[:, :3] - center).square().sum(1).sort(stable=True).indices[:count]
            most = max(most, float(values[near].clamp(min=0).sum()))
        assert values[mask].clamp(min=0).sum() == most


def test_a_random_ball_is_one() -> None:
    inputs = clouds(30, dtype=torch.float32)
    found = RandomBall(probability=1.0, scale=(0.25, 0.25)).mask(inputs, None, torch.Generator().manual_seed(1))
    assert (found.sum(1) == 20).all()
    for cloud, mask in zip(inputs[..., :3], found, strict=True):
        distances = torch.cdist(cloud, cloud)
        assert any(row[mask].max() <= row[~mask].min() for row in distances)
    occluded, _ = RandomBall(probability=1.0)(inputs, torch.zeros(30, dtype=torch.long))
    changed = (occluded != inputs).any(2)
    assert torch.equal(occluded[changed], inputs[:, :1].expand_as(inputs)[changed])

"""Regions."""

import math

import pytest
import torch

from reldrop.metrics.regions import region_metrics, sparsity
from tests.helpers.regions import values


def test_metrics_of_a_hand_worked_image() -> None:
    relevance = torch.tensor([[[4.0, 1.0, -8.0], [3.0, 0.0, 2.0]]])
    region = torch.tensor([[[True, True, False], [False, False, True]]])
    # the three most relevant are 4, 3 and 2, two of them inside; positive are 10, of which 7 inside, on half of the area
    assert values(region_metrics(relevance, region)) == {
        "rank_accuracy": [2 / 3],
        "mass_accuracy": [0.7],
        "pointing_game": [1.0],
        "relevance_per_area": [1.4],
        "area": [0.5],
    }
    outside = values(region_metrics(relevance, ~region))
    assert (outside["rank_accuracy"], outside["mass_accuracy"], outside["pointing_game"]) == ([1 / 3], [0.3], [0.0])


def test_spread_of_a_hand_worked_cloud() -> None:
    figures = values(sparsity(torch.tensor([[2.0, -1.0, 0.0, 1.0]])))
    # ascending 0 1 1 2 with weights -3 -1 1 3, by 4 times their sum; entropy of 1/2 1/4 1/4 is 1.5 log 2
    assert figures["gini"] == [6 / 16]
    assert figures["effective_features"] == pytest.approx([2**1.5], rel=1e-15)
    assert figures["effective_share"] == pytest.approx([2**1.5 / 4], rel=1e-15)


def test_ties_count_as_the_mean_over_all_orders() -> None:
    relevance = torch.tensor([[5.0, 5.0, 1.0, 1.0, 1.0, 0.0]])
    region = torch.tensor([[False, True, True, False, True, False]])
    figures = values(region_metrics(relevance, region))
    # of the three most relevant, one is the 5 inside, and the third is one of the 1s, two of three inside
    assert figures["rank_accuracy"] == pytest.approx([(1 + 2 / 3) / 3])
    assert figures["pointing_game"] == [0.5]
    assert values(region_metrics(torch.zeros(1, 6), region))["rank_accuracy"] == [0.5]


@pytest.mark.parametrize("size", [(7,), (6, 5)])
@pytest.mark.parametrize("levels", [3, 1000])
def test_metrics_equal_a_plain_transcription(size: tuple[int, ...], levels: int) -> None:
    draws = torch.Generator().manual_seed(0)
    relevance = torch.randint(-levels // 2, levels // 2 + 1, (50, *size), generator=draws).float()
    region = torch.rand(50, *size, generator=draws) < torch.rand(50, *([1] * len(size)), generator=draws)
    figures = region_metrics(relevance, region) | sparsity(relevance)
    for index in range(50):
        expected = plain_metrics(relevance[index].flatten().tolist(), region[index].flatten().tolist())
        assert figures.keys() == expected.keys()
        for name, value in expected.items():
            assert figures[name][index].item() == pytest.approx(value, rel=1e-12, nan_ok=True), name


def plain_metrics(relevance: list[float], region: list[bool]) -> dict[str, float]:
    count, inside = len(relevance), sum(region)
    mass = ratio(
        sum(value for value, own in zip(relevance, region, strict=True) if own and value > 0),
        sum(value for value in relevance if value > 0),
    )
    total = sum(map(abs, relevance))
    shares = sorted(abs(value) / total for value in relevance) if total else [math.nan] * count
    effective = math.exp(-sum(share * math.log(share) for share in shares if share))
    differences = sum(abs(one - other) for one in shares for other in shares)
    return {
        "rank_accuracy": top(relevance, region, inside),
        "mass_accuracy": mass if inside else math.nan,
        "pointing_game": top(relevance, region, 1) if inside else math.nan,
        "relevance_per_area": mass * count / inside if inside else math.nan,
        "area": inside / count if inside else math.nan,
        "gini": differences / (2 * count),  # the definition: half the mean difference by the mean
        "effective_features": effective,
        "effective_share": effective / count,
    }


def top(relevance: list[float], region: list[bool], count: int) -> float:
    """Fill `count` places by descending relevance, those of equal relevance to equal parts."""
    hits, places = 0.0, count
    for level in sorted(set(relevance), reverse=True):
        group = [own for value, own in zip(relevance, region, strict=True) if value == level]
        taken = min(places, len(group))
        hits += taken * sum(group) / len(group)
        places -= taken
    return ratio(hits, count)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def test_closed_forms() -> None:
    count = 64
    even, single = torch.full((1, 8, 8), 0.25), torch.zeros(1, 8, 8)
    single[0, 2, 3] = -5
    assert values(sparsity(even))["gini"] == pytest.approx([0], abs=1e-15)
    assert values(sparsity(even))["effective_features"] == pytest.approx([count])
    assert values(sparsity(even))["effective_share"] == pytest.approx([1])
    assert values(sparsity(single)) == {
        "gini": [1 - 1 / count],
        "effective_features": [1.0],
        "effective_share": [1 / count],
    }
    everything = region_metrics(torch.rand(3, 8, 8) + 0.1, torch.ones(3, 8, 8, dtype=torch.bool))
    assert all(figure == pytest.approx([1.0] * 3) for figure in values(everything).values())
    region = torch.zeros(1, 8, 8, dtype=torch.bool)
    region[0, :4, :2] = True
    assert values(region_metrics(even, region)) == {
        "rank_accuracy": [1 / 8],
        "mass_accuracy": [1 / 8],
        "pointing_game": [1 / 8],
        "relevance_per_area": [1.0],
        "area": [1 / 8],
    }


def test_what_is_undefined_is_not_a_number() -> None:
    relevance = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [1.0, math.nan], [math.inf, 1.0]])
    region = torch.tensor([[False, False], [True, False], [True, False], [True, False], [True, False]])
    figures = region_metrics(relevance, region)
    for name, figure in figures.items():
        positive = name in ("mass_accuracy", "relevance_per_area")
        assert figure.isnan().tolist() == [True, positive, positive, True, True], name
    assert figures["pointing_game"][1:3].tolist() == [1.0, 0.5]
    for figure in sparsity(relevance).values():
        assert figure.isnan().tolist() == [False, False, True, True, True]


def test_a_sample_does_not_depend_on_its_batch() -> None:
    draws = torch.Generator().manual_seed(1)
    relevance = torch.randn(9, 6, 5, generator=draws).round(decimals=1)
    region = torch.rand(9, 6, 5, generator=draws) < 0.3
    whole = region_metrics(relevance, region) | sparsity(relevance)
    for index in range(9):
        alone = region_metrics(relevance[[index]], region[[index]]) | sparsity(relevance[[index]])
        for name, figure in alone.items():
            assert figure.item() == pytest.approx(whole[name][index].item(), rel=1e-14)

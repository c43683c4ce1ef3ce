"""Recycled relevance: what a training step leaves behind, where it is kept, and how it is used at the next visit."""

import math

import numpy as np
import pytest
from scipy import stats

from reldrop.reporting.statistics import compare, summarize


def seeds(*values):
    return dict(enumerate(values))


def test_mean_and_deviation_by_hand():
    summary = summarize([1.0, 2.0, 4.0])
    assert summary.n == 3
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.deviation == pytest.approx(math.sqrt((16 + 1 + 25) / 9 / 2))
    assert summarize([0.5]).deviation is None


def test_three_differences_by_hand():
    """Differences 0.1, 0.2, 0.3: t = 0.2 / (0.1 / sqrt 3), and p = 1 - t / sqrt(2 + t^2) with two degrees of freedom."""
    comparison = compare(seeds(0.5, 0.6, 0.7), seeds(0.4, 0.4, 0.4))
    assert comparison.difference == pytest.approx(0.2)
    t = 0.2 / (0.1 / math.sqrt(3))
    assert comparison.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t))
    # One resample in 27 is three times the smallest, which is more than 2.5 %, but less than 5 %.
    assert comparison.interval == pytest.approx((0.1, 0.3))
    wider = compare(seeds(0.5, 0.6, 0.7), seeds(0.4, 0.4, 0.4), confidence=0.9)
    assert wider.interval == pytest.approx((0.4 / 3, 0.8 / 3))
    assert not comparison.supported  # p is 0.074


def test_against_scipy_and_a_plain_bootstrap():
    draws = np.random.default_rng(3)
    ours, theirs = draws.normal(0.6, 0.1, 8), draws.normal(0.5, 0.1, 8)
    comparison = compare(seeds(*ours), seeds(*theirs))
    assert comparison.p_value == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    means = [draws.choice(ours - theirs, 8).mean() for _ in range(20_000)]
    assert np.allclose(comparison.interval, np.quantile(means, [0.025, 0.975]), atol=0.01)
    assert compare(seeds(*ours), seeds(*theirs)) == comparison  # drawn with a seed


def test_only_common_seeds_count():
    comparison = compare({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.0, 0: 0.5, 7: 100.0})
    assert (comparison.n, comparison.difference) == (2, 0.75)
    assert compare({0: 1.0}, {1: 1.0}) is None


def test_fewer_than_three_seeds_say_nothing():
    comparison = compare(seeds(0.9, 0.9), seeds(0.1, 0.1))
    assert (comparison.interval, comparison.p_value, comparison.supported) == (None, None, False)


@pytest.mark.parametrize("other", [0.5, 0.4])
def test_equal_differences_have_no_test(other):
    comparison = compare(seeds(0.7, 0.5, 0.6), seeds(*(value - 0.6 + other for value in (0.7, 0.5, 0.6))))
    assert comparison.p_value is None
    assert comparison.interval == pytest.approx((0.6 - other, 0.6 - other))
    assert not comparison.supported


@pytest.mark.parametrize("n", [3, 5])
def test_without_an_effect_little_is_supported(n):
    """At 95 %, about one comparison in twenty may be; the bootstrap interval alone excludes zero far more often."""
    draws = np.random.default_rng(n)
    pairs = draws.normal(size=(400, 2, n))
    comparisons = [compare(seeds(*ours), seeds(*theirs)) for ours, theirs in pairs]
    supported = sum(comparison.supported for comparison in comparisons) / len(pairs)
    excluded = sum(not comparison.interval[0] <= 0 <= comparison.interval[1] for comparison in comparisons) / len(pairs)
    assert supported <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(pairs))
    assert excluded > 0.1


def test_a_clear_effect_is_supported():
    draws = np.random.default_rng(0)
    base = draws.normal(0.9, 0.01, 5)
    assert compare(seeds(*(base + draws.normal(0.02, 0.002, 5))), seeds(*base)).supported

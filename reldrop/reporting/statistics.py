"""Statistics over seeds: mean and deviation, and the paired difference of two arms with an interval and a test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9999
MIN_SEEDS = 3  # common seeds, below which there is neither interval nor test


@dataclass(frozen=True)
class Summary:
    """Mean of `n` values and their deviation, that of a sample (n - 1); None for a single one."""

    n: int
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two arms over their common seeds.

    Attributes:
        n: how many seeds they have in common.
        difference: mean of the differences, seed by seed.
        interval: bootstrap confidence interval of that mean; None for fewer than `MIN_SEEDS` seeds.
        p_value: of the paired t test, two-sided; None for fewer than `MIN_SEEDS` seeds, or where all differences are equal.
        confidence: level of the interval, in (0, 1).
    """

    n: int
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    confidence: float

    @property
    def supported(self) -> bool:
        """Whether the interval excludes zero and the test agrees at the same level.

        The interval alone would not do with few seeds: the bootstrap never leaves the range of its data, and three
        differences without any effect have the same sign one time in four.
        """
        if self.interval is None or self.p_value is None:
            return False
        low, high = self.interval
        return (low > 0 or high < 0) and self.p_value < 1 - self.confidence


def summarize(values: Sequence[float]) -> Summary:
    """Return mean and deviation of at least one value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(len(values), float(np.mean(values)), deviation)


def compare(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95, seed: int = 0
) -> Comparison | None:
    """Return the difference of two arms, seed -> value, over their common seeds; None if they have none.

    The interval is the percentile bootstrap of the mean difference (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13), drawn with `seed`. The test is Student's for paired samples (Biometrika 6, 1908):
    Wilcoxon's signed ranks cannot reach p < 0.05 with fewer than six seeds, its smallest p being 2 / 2**n.
    """
    common = sorted(values.keys() & baseline.keys())
    if not common:
        return None
    differences = np.array([values[key] - baseline[key] for key in common])
    mean = float(differences.mean())
    if len(common) < MIN_SEEDS:
        return Comparison(len(common), mean, None, None, confidence)
    from scipy import stats  # takes seconds to import

    drawn = stats.bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, confidence_level=confidence, method="percentile", rng=seed
    )
    low, high = (float(end) for end in drawn.confidence_interval)
    p_value = None
    if np.ptp(differences) > 1e-12 * np.abs(differences).max():  # else equal but for rounding: t is not defined
        p_value = float(stats.ttest_1samp(differences, 0).pvalue)
    return Comparison(len(common), mean, (low, high), p_value, confidence)

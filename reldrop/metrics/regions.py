"""How much relevance is in the region of interest, and over how many features it spreads.

Both take a batch and return a figure for each sample, which depends on no other sample. Features of equal relevance have
no order among themselves: where a ranking cuts through them, the result is the mean over all orders they could have. So a
map without any differences points at the region as often as chance does, wherever it is.
"""

import torch
from torch import Tensor


def region_metrics(relevance: Tensor, region: Tensor) -> dict[str, Tensor]:
    """Compare relevance with a region S of the features, as a box around an object or a mask of it.

    - rank_accuracy: share of S among the n most relevant features, n the size of S (Arras, Osman, Samek 2022, "CLEVR-XAI").
    - mass_accuracy: share of the positive relevance that is in S (ibid.).
    - pointing_game: 1 if the most relevant feature is in S, else 0 (Zhang et al. 2018, "Top-down Neural Attention by
      Excitation Backprop"), without their tolerance around S. Of several such features, the share in S.
    - relevance_per_area: mass accuracy divided by area; 1 for relevance that does not depend on S.
    - area: share of all features that are in S.

    Args:
        relevance: (B, ...), e.g. (B, H, W) of images or (B, N) of clouds.
        region: bool, of the same shape.

    Returns:
        Each of these, float64 (B,), in [0, 1], relevance_per_area in [0, 1 / area]. Not a number where S is empty or
        relevance is not finite, and, for mass_accuracy and relevance_per_area, where no relevance is positive.
    """
    relevance, region = relevance.flatten(1).double(), region.flatten(1)
    count = region.sum(1)
    defined = (count > 0) & relevance.isfinite().all(1)
    positive = relevance.clamp(min=0)
    mass = positive.where(region, 0).sum(1) / positive.sum(1)
    area = count.double() / region.shape[1]
    figures = {
        "rank_accuracy": _share_of_top(relevance, region, count.clamp(min=1)),
        "mass_accuracy": mass,
        "pointing_game": _share_of_top(relevance, region, torch.ones_like(count)),
        "relevance_per_area": mass / area,
        "area": area,
    }
    return {name: figure.where(defined, torch.nan) for name, figure in figures.items()}


def sparsity(relevance: Tensor) -> dict[str, Tensor]:
    """Say over how many features the magnitudes m of relevance spread, whatever their sum.

    - gini: Gini index, `sum_i (2 i - P - 1) m_i / (P sum m)` over the P features in ascending order; 0 if all have the
      same, `1 - 1 / P` if one has everything (Hurley, Rickard 2009, "Comparing Measures of Sparsity").
    - effective_features: exp of the entropy of `m / sum m`, P if all have the same, 1 if one has everything.
    - effective_share: that divided by P.

    Args:
        relevance: (B, ...).

    Returns:
        Each of these, float64 (B,); not a number where all relevance is zero or some is not finite.
    """
    values = relevance.flatten(1).double().abs()
    count = values.shape[1]
    shares = values / values.sum(1, keepdim=True)
    weights = torch.arange(1 - count, count, 2, device=values.device, dtype=values.dtype)
    effective = torch.special.entr(shares).sum(1).exp()
    return {
        "gini": (shares.sort(1).values * weights).sum(1) / count,
        "effective_features": effective,
        "effective_share": effective / count,
    }


def _share_of_top(relevance: Tensor, region: Tensor, count: Tensor) -> Tensor:
    """Return which share of the `count` (B,) most relevant features is in the region, in the mean over ties."""
    least = relevance.sort(1, descending=True).values.gather(1, count[:, None] - 1)
    above, equal = relevance > least, relevance == least
    remaining = count - above.sum(1)  # places for those that are equal
    inside = (above & region).sum(1) + remaining * (equal & region).sum(1).double() / equal.sum(1)
    return inside / count

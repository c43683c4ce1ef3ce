"""How far confidences can be trusted: RMS calibration error and area under the response rate accuracy curve.

Both sort samples by confidence. Samples of equal confidence have no order among themselves; each of them counts as
correct to the share in which they are, so that no figure depends on the order of the samples.
"""

import math

import torch
from torch import Tensor


def rms_calibration_error(
    confidence: Tensor, correct: Tensor, bin_size: int = 100, skip_last_bin: bool = False
) -> float:
    """Return the root mean square difference of confidence and accuracy, sqrt(sum_b n_b / N (conf_b - acc_b)^2).

    Sorted by confidence, every `bin_size` samples are a bin b, in which conf_b is the mean confidence and acc_b the
    accuracy. Fewer samples at the end belong to the last bin, which has the largest confidences (Hendrycks, Mazeika,
    Dietterich 2019, "Deep Anomaly Detection with Outlier Exposure"; bins as in calibration_tools.py of
    github.com/hendrycks/natural-adv-examples).

    Args:
        confidence: (N,), in [0, 1].
        correct: (N,), bool.
        bin_size: samples a bin.
        skip_last_bin: leave out the last bin, though not its samples from N. That script does, so that figures from
            it lack the most confident 100 to 199 samples; to compare with them only.

    Returns:
        The error in [0, 1]; not a number without samples, and, where the last bin is skipped, without a full bin.
    """
    confidence, correct = _sorted(confidence, correct)
    count, bins = len(confidence), len(confidence) // bin_size
    if count == 0 or (skip_last_bin and bins == 0):
        return math.nan
    bins = max(bins, 1)
    index = (torch.arange(count, device=confidence.device) // bin_size).clamp(max=bins - 1)
    sizes = index.bincount().double()  # whole numbers would be divided in float32
    difference = (index.bincount(confidence) - index.bincount(correct)) / sizes
    share = (sizes / count * difference**2)[: bins - 1 if skip_last_bin else bins]
    return share.sum().sqrt().item()


def aurra(confidence: Tensor, correct: Tensor) -> float:
    """Return the area under the response rate accuracy curve, mean over k = 1..N of the accuracy of the k most confident.

    A network that knows when it is wrong answers the easy samples first (Hendrycks et al. 2021, "Natural Adversarial
    Examples"). With equal confidences it is the mean over all orders that these could have.

    Args:
        confidence: (N,).
        correct: (N,), bool.

    Returns:
        The area in [0, 1]; not a number without samples.
    """
    _, correct = _sorted(confidence, correct)
    answered = torch.arange(1, len(correct) + 1, device=correct.device)
    return (correct.flip(0).cumsum(0) / answered).mean().item()


def _sorted(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float64 in ascending order of confidence, `correct` averaged where that is equal."""
    confidence, order = confidence.double().sort()
    _, group, sizes = confidence.unique_consecutive(return_inverse=True, return_counts=True)
    shares = torch.zeros_like(sizes, dtype=torch.float64).index_add_(0, group, correct.double()[order]) / sizes
    return confidence, shares[group]

"""Out-of-distribution detection: how well a score tells images of unknown classes from images of known ones."""

from torch import Tensor

from reldrop.metrics.accuracy import confidences

RECALL = 0.95  # at which the false positive rate is given


def anomaly_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Return minus the largest softmax probability over `classes`, float64 (N,); larger is more anomalous.

    Args:
        logits: (N, C).
        classes: int64 (c,), in [0, C).

    Raises:
        ReldropError: a logit is not finite.
    """
    return -confidences(logits[:, classes])


def detection(unknown: Tensor, known: Tensor) -> dict[str, float]:
    """Return what the scores of out-of-distribution samples, the positive class, and of in-distribution ones tell.

    Samples of equal score are accepted or rejected together; no figure depends on the order of the samples.

    Args:
        unknown: scores of the P out-of-distribution samples, (P,), P > 0.
        known: scores of the Q in-distribution samples, (Q,), Q > 0.

    Returns:
        aupr: average precision, the sum over thresholds of precision times the increase of recall, without
            interpolation. Chance is P / (P + Q).
        auroc: probability that the score of an unknown sample is above that of a known one, equal ones counting half.
            Chance is 0.5.
        fpr95: share of the known samples that score at or above the highest threshold at which at least 95 % of the
            unknown do. Where no threshold has exactly 95 %, the script of github.com/hendrycks/natural-adv-examples
            takes the nearest instead, which may be below.
    """
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # takes a second to import

    scores = np.concatenate([part.double().cpu().numpy() for part in (unknown, known)])
    positive = np.repeat([1, 0], [len(unknown), len(known)])
    false_rate, recall, _ = roc_curve(positive, scores, drop_intermediate=False)  # else thresholds would be missing
    return {
        "aupr": float(average_precision_score(positive, scores)),
        "auroc": float(roc_auc_score(positive, scores)),
        "fpr95": float(false_rate[recall >= RECALL][0]),
    }

"""A metric of my own: one number of a split."""

from torch import Tensor

from reldrop.metrics.split import SplitMetric


class MyPart(SplitMetric):
    """The mean entropy of the predicted probabilities, in nats."""

    title, unit, better = "entropy (nats)", "plain", "none"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the figure of all N samples: logits, float32 (N, K), and true classes, int64 (N,)."""
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()

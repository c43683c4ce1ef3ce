"""A metric of one's own."""

from torch import Tensor
from torch.nn.functional import one_hot

from reldrop.metrics.split import SplitMetric


class Brier(SplitMetric):
    title, better = "Brier score", "lower"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.softmax(1) - one_hot(targets, logits.shape[1])).square().sum(1).mean()

"""What is measured: pure functions on tensors, the class lists they are restricted to, and suites that put them together."""

from reldrop.evaluation.imagenet_classes import SETS, class_indices, class_wnids, synsets
from reldrop.evaluation.zero_shot import ZeroShot
from reldrop.metrics.accuracy import confidences, ranks, restrict, top_k
from reldrop.metrics.calibration import aurra, rms_calibration_error
from reldrop.metrics.detection import anomaly_scores, detection
from reldrop.metrics.regions import region_metrics, spread

__all__ = [
    "SETS",
    "ZeroShot",
    "anomaly_scores",
    "aurra",
    "class_indices",
    "class_wnids",
    "confidences",
    "detection",
    "ranks",
    "region_metrics",
    "restrict",
    "rms_calibration_error",
    "spread",
    "synsets",
    "top_k",
]

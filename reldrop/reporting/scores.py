"""The figures that a table shows, by what the registry of metrics or the user says of them."""

from dataclasses import dataclass
from functools import cached_property

from reldrop.metrics.registry import Better, Metric, Unit, find
from reldrop.utils.errors import ReldropError

DEFAULT = ("test_top1", "best_test_top1", "test_class_mean", "best_test_class_mean", "generalization_gap")
ZERO_SHOT = ("zero_shot.imagenet_a.top1", "zero_shot.imagenet_r.top1", "zero_shot.imagenet_o.aupr")


@dataclass(frozen=True)
class Score:
    """A figure of runs.

    Attributes:
        key: its dotted key: one of summary.json, or of another file of the run folder, e.g. zero_shot.imagenet_a.top1.
        better: which direction is better; None for what the registry says.
        unit: likewise its unit.

    Raises:
        ReldropError: for a metric that the registry does not know, without `better` and `unit`.
    """

    key: str
    better: Better | None = None
    unit: Unit | None = None

    def __post_init__(self) -> None:
        if find(self.key) is None and None in (self.better, self.unit):
            raise ReldropError(
                f"metric={self.key} is not in reldrop.metrics.registry; say which direction is better and its unit: "
                "better=higher|lower|none unit=percent|plain"
            )

    @cached_property
    def metric(self) -> Metric:
        """Title, unit and direction."""
        known = find(self.key) or Metric(self.key)
        return Metric(known.title, self.unit or known.unit, self.better or known.better)

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "none": 0}[self.metric.better]

    @property
    def file(self) -> str:
        """The file of the run folder that it comes from, without .json."""
        return self.key.split(".")[0] if "." in self.key else "summary"

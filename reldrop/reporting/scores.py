"""The figures that a table can show: their titles, their unit and which direction is better."""

import re
from dataclasses import dataclass

TITLES = {
    "test_top1": "test, last",
    "best_test_top1": "test, best",
    "selected_test_top1": "test, selected by validation",
    "test_class_mean": "class mean, last",
    "best_test_class_mean": "class mean, best",
    "generalization_gap": "train - test",
    "zero_shot.imagenet_a.top1": "ImageNet-A",
    "zero_shot.imagenet_r.top1": "ImageNet-R",
    "zero_shot.imagenet_o.aupr": "ImageNet-O, AUPR",
}
DEFAULT = ("test_top1", "best_test_top1", "test_class_mean", "best_test_class_mean", "generalization_gap")
ZERO_SHOT = tuple(key for key in TITLES if key.startswith("zero_shot."))
_SHARES = (
    r"top\d+|class_mean|gap|accuracy|probability|blocks|aupr|auroc|fpr95|aurra|calibration|difference|pointing|share"
)
_LOWER = r"gap|fpr95|calibration|loss|difference"


@dataclass(frozen=True)
class Score:
    """A figure of runs.

    Attributes:
        key: its dotted key: one of summary.json, or of another file of the run folder, e.g. zero_shot.imagenet_a.top1.
        better: higher or lower; None for what its name says.
    """

    key: str
    better: str | None = None

    @property
    def title(self) -> str:
        return TITLES.get(self.key, self.key)

    @property
    def is_share(self) -> bool:
        """Whether it lies in [0, 1], or is a difference of such, and is shown in percent."""
        return re.search(_SHARES, self.key) is not None

    @property
    def scale(self) -> float:
        return 100.0 if self.is_share else 1.0

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        lower = re.search(_LOWER, self._leaf) is not None if self.better is None else self.better == "lower"
        return -1 if lower else 1

    @property
    def file(self) -> str:
        """The file of the run folder that it comes from, without .json."""
        return self.key.split(".")[0] if "." in self.key else "summary"

    def shown(self, value: float, signed: bool = False) -> str:
        """Return a value, in percent if it is a share, with two decimals or four digits."""
        return f"{self.scale * value:{'+' if signed else ''}{'.2f' if self.is_share else '.4g'}}"

    @property
    def _leaf(self) -> str:
        return self.key.rpartition(".")[2]

"""Settings of the configuration groups `trainer` and `monitor`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge

from reldrop.utils.types import Count, FractionBelowOne, Positive, checked

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@checked
@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a network is trained; conf/trainer/default.yaml explains each setting.

    Raises:
        ReldropError: for a setting of a wrong type or out of range.
    """

    epochs: Count
    max_steps: Count | None = None
    batch_size: Annotated[int, Ge(2)] = 128  # batch norm cannot train on one sample
    eval_batch_size: Count = 512
    train_eval_samples: Count | None = 10_000
    precision: Precision = "32-true"
    channels_last: bool = False
    compile: bool = False
    label_smoothing: FractionBelowOne = 0.0
    clip_grad_norm: Positive | None = None
    sync_batchnorm: bool = True
    eval_after_attribution: bool = False
    fast_dev_run: bool = False


@checked
@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What is kept and measured during training, without effect on it; conf/monitor/default.yaml explains each setting.

    Raises:
        ReldropError: for a setting of a wrong type or out of range.
    """

    checkpoint_every_steps: Count | None = None
    keep_every_epochs: Count | None = None
    occlusion_every_epochs: Count | None = 5
    occlusion_samples: Count | None = None
    guidance_samples: Count | None = 64
    log_every_steps: Count | None = 50
    pictures_every_epochs: Count | None = 5
    metrics: Mapping[str, Any] = field(default_factory=dict)

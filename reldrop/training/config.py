"""Settings of the training loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from reldrop.utils.types import Count, FractionBelowOne, Positive, checked

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]


@checked
@dataclass(frozen=True)
class TrainerConfig:
    """Settings of the loop; see conf/trainer/default.yaml for what each means."""

    epochs: Count
    max_steps: Count | None
    batch_size: Annotated[int, Ge(2)]  # batch norm cannot train on one sample
    eval_batch_size: Count
    train_eval_samples: Count | None
    precision: Precision
    channels_last: bool
    compile: bool
    label_smoothing: FractionBelowOne
    clip_grad_norm: Positive | None
    accelerator: Accelerator
    sync_batchnorm: bool
    eval_after_attribution: bool
    checkpoint_every: Count | None
    keep_every: Count | None
    evaluate_occlusion_every: Count | None
    occlusion_samples: Count
    progress: bool

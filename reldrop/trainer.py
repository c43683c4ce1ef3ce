"""Settings of the training loop."""

from dataclasses import dataclass

from reldrop.errors import ReldropError


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of the loop; see conf/trainer/default.yaml for what each means."""

    epochs: int
    max_steps: int | None
    batch_size: int
    eval_batch_size: int
    train_eval_samples: int | None
    precision: str
    channels_last: bool
    compile: bool
    label_smoothing: float
    clip_grad_norm: float | None
    accelerator: str
    sync_batchnorm: bool
    eval_after_attribution: bool
    checkpoint_every: int | None
    keep_every: int | None
    evaluate_occlusion_every: int | None
    occlusion_samples: int
    progress: bool

    def __post_init__(self) -> None:
        positive = (
            "epochs",
            "max_steps",
            "eval_batch_size",
            "train_eval_samples",
            "checkpoint_every",
            "keep_every",
            "evaluate_occlusion_every",
            "occlusion_samples",
            "clip_grad_norm",
        )
        for key in positive:
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ReldropError(f"trainer.{key} is {value}; it must be greater than 0")
        if self.batch_size < 2:
            raise ReldropError(
                f"trainer.batch_size is {self.batch_size}; batch norm needs at least 2 samples to learn from"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ReldropError(f"trainer.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")

"""What happens around a training step: checkpoints, signals, checks and quirks, each a `Hook` of its own."""

import logging
import math
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.backbones.sync_batch_norm import SyncBatchNorm, average_statistics
from reldrop.data.base import Batch
from reldrop.metrics.registry import current_key
from reldrop.runs.run import NullRun, Run
from reldrop.utils.errors import ReldropError
from reldrop.utils.signals import SIGNALS, Signals
from reldrop.utils.tensors import to_host

if TYPE_CHECKING:
    from reldrop.training.trainer import StepOutput, Trainer

logger = logging.getLogger("reldrop")


class Hook:
    """Base of the hooks of a `Trainer`, which calls them in their order; a subclass overrides what it needs.

    With several processes, each has its hooks, and all are called at the same times.
    """

    # fmt: off
    def before_epoch(self, trainer: "Trainer") -> None: ...  # the network is in training mode; perhaps amid an epoch
    def before_step(self, trainer: "Trainer", batch: Batch) -> None: ...
    def after_attribution(self, trainer: "Trainer") -> None: ...  # the training forward of the batch follows
    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None: ...  # the weights are updated, the step counted
    def before_evaluation(self, trainer: "Trainer") -> None: ...  # after the last step of the epoch
    def before_eval_batch(self, trainer: "Trainer") -> None: ...  # processes have unequal numbers of them
    def measure(self, trainer: "Trainer", record: dict[str, Any]) -> None: ...  # to add to the record, in evaluation mode
    def after_epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None: ...  # it is measured and counted
    def before_checkpoint(self, trainer: "Trainer") -> None: ...
    def state_dict(self) -> dict[str, Any]: return {}  # what a resumed run needs of the hook
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    # fmt: on


class FiniteLoss(Hook):
    """Stops the run when the loss is not finite.

    It looks at the loss of the step before the one that was just launched: a GPU then has work while the host looks.

    Args:
        folder: of the run, for the message.

    Raises:
        ReldropError: from the training.
    """

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self._unchecked: tuple[StepOutput, Callable[[], Tensor]] | None = None

    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None:
        self._check(trainer)
        self._unchecked = output, to_host(output.loss)

    def _check(self, trainer: "Trainer") -> None:
        if self._unchecked is None:
            return
        (output, loss), self._unchecked = self._unchecked, None
        if torch.isfinite(loss()):
            return
        low, high, largest = (x.item() for x in (*output.inputs.aminmax(), output.logits.abs().max()))
        raise ReldropError(
            f"the loss is {output.loss.item()} at epoch {output.epoch + 1}, batch {output.batch + 1}: learning rate "
            f"{trainer.scheduler.get_last_lr()[0]:.3g}, inputs from {low:.3g} to {high:.3g}, largest logit {largest:.3g}. The "
            f"checkpoint before it is kept in {self.folder}; try a smaller optimizer.lr, trainer.clip_grad_norm or another "
            "trainer.precision"
        )

    before_evaluation = before_checkpoint = _check


class EvalAfterAttribution(Hook):
    """A quirk of the release's training on point clouds: after the first attribution of an epoch, the network stays in
    evaluation mode to its end, so that batch norm is frozen and dropout is off."""

    def __init__(self) -> None:
        self.attributed = False

    def before_epoch(self, trainer: "Trainer") -> None:
        if self.attributed:
            trainer.model.eval()

    def after_attribution(self, trainer: "Trainer") -> None:
        self.attributed = True
        trainer.model.eval()

    def after_epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        self.attributed = False

    def state_dict(self) -> dict[str, Any]:
        return {"attributed": self.attributed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.attributed = state["attributed"]


class SyncStatistics(Hook):
    """Makes batch norms of several processes normalize by the statistics of the whole batch.

    A batch that is too small to be split is the same in all processes, each of which then normalizes it by itself.

    Args:
        model: the network, before Fabric wraps it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = SyncBatchNorm(model)

    def before_step(self, trainer: "Trainer", batch: Batch) -> None:
        self._norms.shared = len(batch.inputs) < batch.shard.count


class AverageStatistics(Hook):
    """Makes running statistics equal after each step where each process normalizes by itself."""

    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None:
        average_statistics(trainer.module)


class Checkpoints(Hook):
    """Keeps the run folder: a record of each epoch, then last.pt, best.pt for the best epoch, and epochN.pt of some.

    Args:
        run: the run folder; a `NullRun` in all processes but the first.
        selection: key of the records by which the best epoch is chosen.
        every_steps: steps between checkpoints amid an epoch; None for none.
        keep_every_epochs: epochs between checkpoints that stay; None for none.
    """

    def __init__(
        self,
        run: Run | NullRun,
        selection: str,
        every_steps: int | None = None,
        keep_every_epochs: int | None = None,
    ) -> None:
        self.run, self.selection = run, selection
        self.every_steps, self.keep_every_epochs = every_steps, keep_every_epochs
        self.best: dict[str, Any] = {}

    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None:
        if self.every_steps and trainer.step % self.every_steps == 0:
            self.save(trainer)

    def after_epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        self.run.log(record)
        weights = {"model": trainer.module.state_dict(), "epoch": trainer.epoch}
        if not self.best or record[self.selection] > self.best[self.selection]:
            self.best = record
            self.run.save(weights, "best.pt")
        if self.keep_every_epochs and trainer.epoch % self.keep_every_epochs == 0:
            self.run.save(weights, f"epoch{trainer.epoch:04}.pt")
        self.save(trainer)

    def save(self, trainer: "Trainer") -> None:
        """Write last.pt; all processes call it after the same step."""
        trainer.call("before_checkpoint")
        trainer.meter.gather()
        self.write(trainer)

    def write(self, trainer: "Trainer") -> None:
        """Write last.pt without regard to other processes."""
        self.run.save(trainer.state_dict(), "last.pt")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = {current_key(key): value for key, value in state["best"].items()}


class StopOnSignals(Hook):
    """Writes a checkpoint when a signal asks the run to stop, then does what the signal asks for.

    Args:
        signals: entered as a context manager while training goes on.
        checkpoints: writes them.
    """

    def __init__(self, signals: Signals, checkpoints: Checkpoints) -> None:
        self.signals, self.checkpoints = signals, checkpoints
        self._flags: deque[Tensor] = (
            deque()
        )  # of the last steps: for each of SIGNALS, how many processes have received it

    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None:
        for number in self._due(trainer):
            self.checkpoints.save(trainer)
            self._stop(trainer, number)

    def before_eval_batch(self, trainer: "Trainer") -> None:
        for number in self.signals.received():  # nothing has changed since the last step: each process leaves by itself
            self.checkpoints.write(trainer)
            self._stop(trainer, number)

    def _due(self, trainer: "Trainer") -> list[int]:
        """Return the signals to act on now.

        Of several processes, these are those that any of them had received by the step before: all then stop after the same
        step, and none waits for the device.
        """
        received = self.signals.received()
        if trainer.sharder.processes == 1:
            return received
        flags = torch.tensor([float(number in received) for number in SIGNALS], device=trainer.fabric.device)
        dist.all_reduce(flags)
        self._flags.append(flags)
        if len(self._flags) < 2:
            return []
        return [number for number, count in zip(SIGNALS, self._flags.popleft().tolist(), strict=True) if count]

    def _stop(self, trainer: "Trainer", number: int) -> None:
        name = signal.Signals(number).name
        logger.info("%s: the checkpoint is after %d epochs and %d batches", name, trainer.epoch, trainer.batch)
        self.signals.hand_on(number)


class Progress(Hook):
    """A bar of the batches of an epoch, then of those it is evaluated on, then of what hooks measure; on a terminal."""

    _bar: tqdm | None = None

    def before_epoch(self, trainer: "Trainer") -> None:
        total = trainer.data.steps_per_epoch(trainer.config.batch_size)
        self._open(trainer, "", total, trainer.batch)

    def after_step(self, trainer: "Trainer", output: "StepOutput") -> None:
        self._bar.update()

    def before_evaluation(self, trainer: "Trainer") -> None:
        counts = [(len(getattr(trainer.data, split)), limit) for split, limit in trainer.eval_splits().items()]
        size = trainer.config.eval_batch_size
        batches = sum(math.ceil(min(count, limit or count) / size) for count, limit in counts)
        self._open(trainer, " evaluation", math.ceil(batches / trainer.sharder.processes))

    def before_eval_batch(self, trainer: "Trainer") -> None:
        self._bar.update()

    def measure(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        self._open(trainer, " occlusion", None)

    def after_epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        self._bar.close()

    def _open(self, trainer: "Trainer", part: str, total: int | None, done: int = 0) -> None:
        """Show a bar in place of the one before; `total` is None where it is not known."""
        if self._bar is not None:
            self._bar.close()
        title = f"epoch {trainer.epoch + 1}/{trainer.config.epochs}{part}"
        # disable=None: unless there is a terminal
        self._bar = tqdm(total=total, initial=done, desc=title, unit="batch", leave=False, disable=None)

"""The method: attribute, occlude, and take the ordinary training step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reldrop.attribution import Attribution
from reldrop.attribution.recycled import RelevanceCache
from reldrop.data import Data
from reldrop.data.base import Batch
from reldrop.distributed.sharding import BatchSharder
from reldrop.metrics.split import SplitMetric
from reldrop.training.config import TrainerConfig
from reldrop.training.hooks import Hook
from reldrop.training.meters import EpochMeter
from reldrop.training.validation import accuracies
from reldrop.utils.seeding import derive_seed, generator
from reldrop.utils.tensors import positions

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class StepOutput(NamedTuple):
    """What a step leaves for the hooks.

    Attributes:
        epoch, batch: which step it was, both from 0.
        inputs: as the network was trained on them.
        logits: float (B, K).
        loss: mean over the whole batch, of all processes.
        occluded_share: of the positions of the whole batch, in [0, 1].
    """

    epoch: int
    batch: int
    inputs: Tensor
    logits: Tensor
    loss: Tensor
    occluded_share: Tensor


class Trainer:
    """Trains `model` on `data`, epoch by epoch.

    Args:
        fabric: connected to the other processes, if there are any; each trains on its shard of every batch.
        model: the network; the attribution reads it as it is, training may wrap and compile it.
        data: where batches come from.
        augmentation: what is done to a batch before the network learns from it.
        attribution: where the relevance comes from that the augmentation asks for.
        optimizer: of the parameters of `model`.
        scheduler: of its learning rate; stepped after each batch.
        config: settings.
        seed: of the order of samples, crops and other transforms, occlusion and dropout.
        hooks: called at each of their events, in this order.
        cache: gives relevance instead of `attribution`, if there is one.
        metrics: of the user's own, by name; measured after each epoch.

    Attributes:
        epoch, batch, step: finished epochs, finished batches of the current one, and finished steps in all.
        module: `model`, without what Fabric and torch.compile wrap around it.
        meter: sums over the epoch.
    """

    def __init__(
        self,
        fabric: "Fabric",
        model: nn.Module,
        data: Data,
        augmentation: Callable[..., tuple[Tensor, Tensor]],
        attribution: Attribution,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        config: TrainerConfig,
        seed: int,
        hooks: Sequence[Hook] = (),
        cache: RelevanceCache | None = None,
        metrics: Mapping[str, SplitMetric] | None = None,
    ) -> None:
        self.fabric, self.data, self.config, self.seed = fabric, data, config, seed
        self.augmentation, self.attribution, self.scheduler = augmentation, attribution, scheduler
        self.sharder = BatchSharder(fabric.global_rank, fabric.world_size)
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.module = model.to(memory_format=self.memory_format)  # before DDP looks at the layout of the parameters
        self.model, self.optimizer = fabric.setup(torch.compile(model) if config.compile else model, optimizer)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.hooks, self.cache = [*hooks, *([cache] if cache else [])], cache
        self.metrics = dict(metrics or {})
        self.meter = EpochMeter(fabric.device, self.sharder.processes)
        self.epoch, self.batch, self.step = 0, 0, 0

    def fit(self) -> None:
        """Train from where the run stands to its end."""
        while not self.finished:
            self.train_epoch()
            record = self.evaluate()
            self.epoch, self.batch = self.epoch + 1, 0
            self.meter.reset()
            self.call("after_epoch", record)

    @property
    def finished(self) -> bool:
        """Whether all epochs, or all steps and the evaluation after them, are done."""
        return self.epoch >= self.config.epochs or (self.steps_done and self.batch == 0)

    def train_epoch(self) -> None:
        """Train on the batches of the epoch that are left."""
        self.model.train()
        self.call("before_epoch")
        self.meter.start()
        for batch in self._batches():
            if self.steps_done:
                break
            torch.manual_seed(derive_seed(self.seed, "dropout", *self._position(own=True)))
            self.call("before_step", batch)
            output = self.training_step(batch)
            self.batch, self.step = self.batch + 1, self.step + 1
            self.call("after_step", output)

    def training_step(self, batch: Batch) -> StepOutput:
        """Occlude what is relevant to the network as it is now, and learn from what is left (Algorithm 1 of the paper)."""
        with self.fabric.autocast():
            relevance, rng = self.relevance_of(batch), self.rng("occlusion")
            occluded, targets = self.augmentation(batch.inputs, batch.targets, relevance, rng, batch.shard)
        # After the occlusion, as in the release.
        inputs = self.data.transform(occluded, self.rng("perturb"), batch.shard)
        logits = self.model(inputs)
        loss = self.criterion(logits, targets)
        # Gradients become the mean over processes; with this weight, it is that of the mean over the whole batch.
        weight = self.sharder.processes * batch.shard.weight
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward((loss + self._auxiliary_loss()) * weight)
        self._clip_gradients()
        self.optimizer.step()
        self.scheduler.step()
        loss, occluded_share = self.meter.update(loss.detach(), batch.inputs, occluded, batch.shard)
        return StepOutput(self.epoch, self.batch, inputs, logits.detach(), loss, occluded_share)

    def relevance_of(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Return what gives the relevance of rows of a batch, by the weights as they are now, when it is called."""
        rng = self.rng("attribution", own=True)

        def relevance(rows: Tensor) -> Tensor:
            if self.cache is not None:
                return self.cache.get(batch, rows, rng)
            whole = len(rows) == len(batch.inputs)
            inputs, targets = batch[:2] if whole else (batch.inputs[rows], batch.targets[rows])
            if len(inputs):
                with self.meter.timer.time():
                    maps = self.attribution(self.module, inputs, targets, generator=rng)
                if self.attribution.conserves and batch.shard.items:
                    self.meter.add_relevance(maps)
            else:  # all that are to be occluded are in other processes
                maps = inputs.new_zeros(positions(inputs))
            self.call("after_attribution")
            return maps

        return relevance

    def rng(self, stream: str, own: bool = False) -> torch.Generator:
        """Return a generator on the CPU for one use of randomness in the current step.

        Args:
            stream: what it is for.
            own: whether each process draws for itself; the first one then draws what a single process would.
        """
        return generator(self.seed, stream, *self._position(own))

    def evaluate(self) -> dict[str, Any]:
        """Return the record of the epoch: what the meter has counted, accuracies, and what hooks measure."""
        self.call("before_evaluation")
        self.meter.gather()
        record: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step, **self.meter.compute()}
        record["lr"] = self.scheduler.get_last_lr()[0]
        self.model.eval()
        for split, limit in self.eval_splits().items():
            batches = self.data.eval_batches(
                split, batch_size=self.config.eval_batch_size, limit=limit, sharder=self.sharder
            )
            figures = accuracies(self.predict, batches, self.data.num_classes, self.fabric.device, self.metrics)
            record.update({f"{split}/{key}": value for key, value in figures.items()})
        self.call("measure", record)
        return record

    def eval_splits(self) -> dict[str, int | None]:
        """Return which splits are evaluated after an epoch, each with the number of its samples; None for all."""
        whole = self.config.batch_size if self.config.fast_dev_run else None
        splits = {"train": whole or self.config.train_eval_samples, "test": whole}
        return splits if self.data.validation is None else {**splits, "validation": whole}

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of inputs, in the precision of the training."""
        self.call("before_eval_batch")
        return self.model(inputs.contiguous(memory_format=self.memory_format))

    def call(self, event: str, *arguments: Any) -> None:
        """Call all hooks that have a method of this name."""
        for hook in self.hooks:
            if method := getattr(hook, event, None):
                method(self, *arguments)

    def state_dict(self) -> dict[str, Any]:
        """Return all that training depends on."""
        return {
            **{key: getattr(self, key) for key in ("epoch", "batch", "step")},
            "precision": self.fabric.strategy.precision.state_dict(),
            **{name: part.state_dict() for name, part in self._parts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, with any number of processes."""
        self.epoch, self.batch, self.step = (state[key] for key in ("epoch", "batch", "step"))
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    @property
    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in a checkpoint."""
        parts = {"model": self.module, "optimizer": self.optimizer, "scheduler": self.scheduler, "meter": self.meter}
        return {**parts, **{type(hook).__name__: hook for hook in self.hooks if hook.state_dict()}}

    @property
    def steps_done(self) -> bool:
        limit = 1 if self.config.fast_dev_run else self.config.max_steps
        return limit is not None and self.step >= limit

    def _position(self, own: bool) -> tuple[int, ...]:
        """Where in the run the current step is, and in which process if each draws for itself."""
        return (self.epoch, self.batch, *([self.sharder.rank] if own and self.sharder.rank else []))

    def _batches(self) -> Iterator[Batch]:
        batches = self.data.train_batches(
            self.epoch, batch_size=self.config.batch_size, seed=self.seed, start=self.batch, sharder=self.sharder
        )
        for batch in batches:
            yield batch._replace(inputs=batch.inputs.contiguous(memory_format=self.memory_format))

    def _auxiliary_loss(self) -> Tensor | float:
        """What the network itself adds to the loss, as PointNet does."""
        penalty = getattr(self.module, "penalty", None)
        return 0.0 if penalty is None else penalty

    def _clip_gradients(self) -> None:
        if (limit := self.config.clip_grad_norm) is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)

"""The training loop: attribute, occlude, take the ordinary step."""

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from reldrop.attribution import Attribution, Recycled
from reldrop.attribution.recycled import RelevanceCache
from reldrop.backbones.sync_batch_norm import SyncBatchNorm, average_statistics
from reldrop.data import Data
from reldrop.data.base import Batch
from reldrop.distributed.sharding import BatchSharder, Shard
from reldrop.evaluation.robustness import QuickOcclusion
from reldrop.runs.run import NullRun, Run
from reldrop.training.config import TrainerConfig
from reldrop.training.meters import EpochMeter, Timer
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import derive_seed, generator
from reldrop.utils.signals import SIGNALS, Interruptions
from reldrop.utils.tensors import channel_axis, positions

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("reldrop")

QUICK = QuickOcclusion()  # what is measured of it while training goes on


class Augmentation(Protocol):
    """What is done to a batch before the network learns from it."""

    needs_relevance: bool

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        relevance: Callable[[Tensor], Tensor] | None = None,
        generator: torch.Generator | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]: ...


class Trainer:
    """Trains `model` on `data`, epoch by epoch, and keeps what it needs to go on after an interruption in `run`.

    Args:
        fabric: connected to the other processes, if there are any; each trains on its share of every batch.
        model: the network; the attribution reads it as it is, training may wrap and compile it.
        scheduler: stepped after each batch.
        run: in the first process; a `NullRun` in others.
        seed: of the order of samples, of crops and other perturbations, occlusion and dropout.

    Raises:
        ReldropError: from `train`, when the loss stops being finite.
    """

    def __init__(
        self,
        fabric: "Fabric",
        model: nn.Module,
        data: Data,
        augmentation: Augmentation,
        attribution: Attribution,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        run: Run | NullRun,
        config: TrainerConfig,
        seed: int,
    ) -> None:
        self.fabric, self.data, self.run, self.config, self.seed = fabric, data.to(fabric.device), run, config, seed
        self.augmentation, self.attribution = augmentation, attribution
        self.sharder = BatchSharder(fabric.global_rank, fabric.world_size)
        self.module = model
        self.scheduler = scheduler
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.module.to(memory_format=self.memory_format)  # before DDP looks at the layout of the parameters
        self._sync_batch_norm = SyncBatchNorm(model) if config.sync_batchnorm and self._several else None
        trained = torch.compile(model) if config.compile else model
        self.model, self.optimizer = fabric.setup(trained, optimizer)
        self.memory = self._memory()
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.stopwatch = Timer(fabric.device)
        self.epoch, self.batch, self.step = 0, 0, 0  # finished epochs, finished batches of this one, steps in all
        self.best: dict[str, Any] = {}
        self.totals = EpochMeter()
        self._conserved: list[Tensor] = []  # in this process, since the totals were last brought together
        self._unchecked: tuple[int, int, Tensor, Tensor, Tensor] | None = None
        self._interruptions = Interruptions()
        self._noted: list[Tensor] = []  # for each of SIGNALS, by how many processes; of the last two steps at most
        self.selection = "validation_top1" if data.validation is not None else "test_top1"

    # ---- the method -------------------------------------------------------------------------------------------------

    def train(self, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        """Train from where the run stands to its end; `on_epoch` is given the record of each epoch.

        SIGTERM and SIGUSR2 wait for a checkpoint, see `Interruptions`.
        """
        with self._interruptions:
            while not self._is_over():
                self._train_epoch()
                record = self._evaluate()
                self.run.log(record)
                on_epoch(record)
                self.epoch, self.batch, self.totals = self.epoch + 1, 0, EpochMeter()
                if not self.best or record[self.selection] > self.best[self.selection]:
                    self.best = record
                    self._keep("best.pt")
                if self.config.keep_every and self.epoch % self.config.keep_every == 0:
                    self._keep(f"epoch{self.epoch:04}.pt")
                self.save()

    def _train_epoch(self) -> None:
        self.model.train(not (self.config.eval_after_attribution and self.totals.attributed))
        started = time.perf_counter()
        for batch in self._progress(self._batches()):
            if self.config.max_steps and self.step >= self.config.max_steps:
                break
            torch.manual_seed(self._own_seed("dropout"))
            inputs, shard = batch.inputs, batch.shard
            occluded, targets = self._occlude(batch)
            perturbed = self.data.transform(occluded, generator(self.seed, "perturb", self.epoch, self.batch), shard)
            if self._sync_batch_norm is not None:
                self._sync_batch_norm.shared = len(inputs) < shard.count
            with nullcontext() if self.memory is None else self.memory.recording(batch):
                logits = self.model(perturbed)
            loss = self.criterion(logits, targets)
            # Gradients become the mean over processes; with these weights, it is the one of the mean over all samples.
            self._update((loss + self._penalty()) * (self.sharder.processes * shard.weight))
            loss = self._count(inputs, occluded, loss, shard)
            self._check_finite()
            self._unchecked = (self.epoch + 1, self.batch, loss, perturbed, logits.detach())
            self.totals.seconds += time.perf_counter() - started
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                self.save()
            for number in self._noted_by_all():
                self.save()
                self._leave(number)
            started = time.perf_counter()
        self._check_finite()

    def _occlude(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The augmentation, with the relevance of the weights as they are now, or what is remembered of it."""
        draws = torch.Generator().manual_seed(self._own_seed("attribution"))
        attribute = partial(self.attribution, self.module, generator=draws)

        def relevance(rows: Tensor) -> Tensor:
            if self.memory is not None:
                return self.memory.get(batch, rows, draws)
            whole = len(rows) == len(batch.inputs)
            samples, classes = batch[:2] if whole else (batch.inputs[rows], batch.targets[rows])
            self.totals.attributed = True
            if len(samples) == 0:  # all that are to be occluded are in other processes
                maps = samples.new_zeros(positions(samples))
            else:
                maps = self.stopwatch.time(attribute, samples, classes)
                if self.attribution.conserves and batch.shard.items:
                    self._conserved.append(maps.flatten(1).sum(1))
            if self.config.eval_after_attribution:
                self.model.eval()
            return maps

        draws_of_batch = generator(self.seed, "occlusion", self.epoch, self.batch)
        with self.fabric.autocast():
            return self.augmentation(batch.inputs, batch.targets, relevance, draws_of_batch, batch.shard)

    def _own_seed(self, stream: str) -> int:
        """Return a seed for what each process draws for itself; the first one draws what a single process would."""
        own = (self.sharder.rank,) if self.sharder.rank else ()
        return derive_seed(self.seed, stream, self.epoch, self.batch, *own)

    @property
    def _several(self) -> bool:
        return self.sharder.processes > 1

    def _penalty(self) -> Tensor | float:
        """What the network itself adds to the loss, as PointNet does."""
        penalty = getattr(self.module, "penalty", None)
        return 0.0 if penalty is None else penalty

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.config.clip_grad_norm is not None:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.config.clip_grad_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.scheduler.step()
        if self._several and self._sync_batch_norm is None:
            average_statistics(self.module)

    def _batches(self) -> Iterator[Batch]:
        batches = self.data.train_batches(
            self.epoch, batch_size=self.config.batch_size, seed=self.seed, start=self.batch, sharder=self.sharder
        )
        for batch in batches:
            yield batch._replace(inputs=batch.inputs.contiguous(memory_format=self.memory_format))

    def _memory(self) -> RelevanceCache | None:
        """What is recycled, if anything is."""
        if not (isinstance(self.attribution, Recycled) and self.augmentation.needs_relevance):
            return None
        unfit = {
            "trainer.compile": self.config.compile,
            "trainer.eval_after_attribution": self.config.eval_after_attribution,
            "several processes": self._several,
        }
        if any(unfit.values()):
            names = " and ".join(name for name, given in unfit.items() if given)
            raise ReldropError(f"attribution=recycled does not go with {names}; take attribution=gradient")
        return self.attribution.memory(self.module, self.data)

    def _is_over(self) -> bool:
        limit = self.config.max_steps
        return self.epoch >= self.config.epochs or (limit is not None and self.step >= limit and self.batch == 0)

    # ---- what is measured -------------------------------------------------------------------------------------------

    def _count(self, inputs: Tensor, occluded: Tensor, loss: Tensor, shard: Shard) -> Tensor:
        """Add a batch to the totals and return its loss, in all processes that of the whole batch."""
        self.batch, self.step = self.batch + 1, self.step + 1
        totals, loss = self.totals, loss.detach()
        sums = [loss.double() * shard.items]
        if occluded is not inputs:
            changed = (occluded != inputs).any(channel_axis(inputs))
            sums.append(changed.flatten(1).double().mean(1).sum() * (shard.items / len(inputs)))
        if self._several:
            noted = [float(number in self._interruptions.noted()) for number in SIGNALS]
            together = torch.cat([torch.stack(sums), loss.new_tensor(noted, dtype=torch.float64)])
            dist.all_reduce(together)
            self._noted.append(together[len(sums) :])
            sums, loss = list(together[: len(sums)]), together[0] / shard.count
        totals.samples += shard.count
        totals.loss = totals.loss + sums[0]
        totals.occluded = totals.occluded + sum(sums[1:])
        return loss

    def _bring_together(self) -> None:
        """Add what each process has counted for itself to the totals."""
        own, self._conserved = self._conserved, []
        if self._several:
            everywhere: list[Any] = [None] * self.sharder.processes
            dist.all_gather_object(everywhere, [values.cpu() for values in own])
            own = [values.to(self.fabric.device) for process in everywhere for values in process]
        self.totals.conserved.extend(own)
        self.totals.attribution_seconds += self.stopwatch.take()

    def _check_finite(self) -> None:
        """Look at the loss of the step before the one that was just launched: a GPU then need not wait for the host."""
        if self._unchecked is None:
            return
        epoch, batch, loss, inputs, logits = self._unchecked
        self._unchecked = None
        if torch.isfinite(loss):
            return
        raise ReldropError(
            f"the loss is {loss.item()} at epoch {epoch}, batch {batch}: learning rate "
            f"{self.scheduler.get_last_lr()[0]:.3g}, inputs from {inputs.min().item():.3g} to {inputs.max().item():.3g}, "
            f"largest logit {logits.abs().max().item():.3g}. The checkpoint before it is kept in {self.run.path}; try a "
            "smaller optimizer.lr, trainer.clip_grad_norm or another trainer.precision"
        )

    def _evaluate(self) -> dict[str, Any]:
        if self.fabric.device.type == "cuda":  # the clock of the epoch must not stop before the device does
            started = time.perf_counter()
            torch.cuda.synchronize(self.fabric.device)
            self.totals.seconds += time.perf_counter() - started
        self._bring_together()
        record: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        record.update(self.totals.record(), lr=self.scheduler.get_last_lr()[0])
        splits = {"train": self.config.train_eval_samples, "test": None}
        if self.data.validation is not None:
            splits["validation"] = None
        for split, limit in splits.items():
            record.update(self._accuracy(split, limit))
        if self.config.evaluate_occlusion_every and (self.epoch + 1) % self.config.evaluate_occlusion_every == 0:
            record.update(self._occlusion())
        return record

    @torch.inference_mode()
    def _accuracy(self, split: str, limit: int | None) -> dict[str, float]:
        """Accuracies in [0, 1] on clean inputs, in evaluation mode: top-1, top-5, and the mean of those of the classes."""
        from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

        classes = self.data.num_classes
        top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(self.fabric.device)
        confusion = MulticlassConfusionMatrix(classes).to(self.fabric.device)  # rows: true classes
        self.model.eval()
        size = self.config.eval_batch_size
        for inputs, targets, *_ in self.data.eval_batches(split, batch_size=size, limit=limit, sharder=self.sharder):
            self._heed()
            logits = self.model(inputs.contiguous(memory_format=self.memory_format))
            top5.update(logits, targets)
            confusion.update(logits, targets)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*before the ``update`` method.*")  # a process may have no batch
            counts = confusion.compute().double()  # torchmetrics adds up those of all processes
            top5_share = top5.compute().item()
        present = counts.sum(1) > 0  # a class without samples has no accuracy
        return {
            f"{split}_top1": (counts.trace() / counts.sum()).item(),
            f"{split}_top5": top5_share,
            f"{split}_class_mean": (counts.diag() / counts.sum(1))[present].mean().item(),
        }

    def _occlusion(self) -> dict[str, float]:
        """Areas under the accuracy on test samples that are occluded in few steps, and how unevenly relevance lies."""
        self.model.eval()
        limit, size = self.config.occlusion_samples, self.config.eval_batch_size

        def predict(inputs: Tensor) -> Tensor:
            self._heed()
            return self.model(inputs)

        with self.fabric.autocast():
            return QUICK.measure(self.module, self.data, self.attribution, predict, limit, size, self.sharder)

    def _progress(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        steps = self.data.steps_per_epoch(self.config.batch_size)
        return tqdm(
            batches,
            total=steps,
            initial=self.batch,
            desc=f"epoch {self.epoch + 1}/{self.config.epochs}",
            unit="batch",
            leave=False,
            disable=None if self.config.progress and self.fabric.is_global_zero else True,  # None: only on a terminal
        )

    # ---- going on after an interruption -------------------------------------------------------------------------------

    def save(self) -> None:
        """Write all that training depends on to last.pt, unless the loss went wrong."""
        self._check_finite()
        self._bring_together()
        self._write()

    def _write(self) -> None:
        self.run.save(
            {
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "best": self.best,
                "totals": self.totals.state_dict(),
                "model": self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "memory": self.memory and self.memory.state_dict(),
            },
            "last.pt",
        )

    def resume(self) -> bool:
        """Go back to the last checkpoint of the run, of however many processes; False if it has none."""
        state = self.fabric.broadcast(self.run.load("last.pt"))
        self.run.rewind(state["epoch"] if state else 0)
        if state is None:
            return False
        self.epoch, self.batch, self.step, self.best = (state[key] for key in ("epoch", "batch", "step", "best"))
        self.totals = EpochMeter(**state["totals"])
        self.totals.conserved = [values.to(self.fabric.device) for values in self.totals.conserved]
        for key in ("loss", "occluded"):
            value = getattr(self.totals, key)
            setattr(self.totals, key, value.to(self.fabric.device) if isinstance(value, Tensor) else value)
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
        return True

    def _keep(self, name: str) -> None:
        self.run.save({"model": self._weights(), "epoch": self.epoch}, name)

    def _noted_by_all(self) -> list[int]:
        """Return the signals to heed now; of several processes, those that any had had by the step before, hence all alike."""
        if not self._several:
            return self._interruptions.noted()
        if len(self._noted) < 2:
            return []
        return [number for number, processes in zip(SIGNALS, self._noted.pop(0).tolist(), strict=True) if processes]

    def _heed(self) -> None:
        """Heed signals between the batches of an evaluation, behind the last step of an epoch; each process by itself."""
        for number in self._interruptions.noted():
            self._write()
            self._leave(number)

    def _leave(self, number: int) -> None:
        """Do what a signal asks for; that may be nothing."""
        name = signal.Signals(number).name
        logger.info("%s: the checkpoint is after %d epochs and %d batches", name, self.epoch, self.batch)
        self._interruptions.hand_on(number)

    def _weights(self) -> dict[str, Tensor]:
        return self.module.state_dict()

"""Training in several processes: who started them, how they find each other, and which of them reports a failure."""

import functools
import inspect
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from reldrop.utils.errors import ReldropError

# Fabric is imported where it is used, for it takes longer than all else together; a mistake is to be named before.
if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_PORT, PORTS = 15_000, 15_000  # for SLURM; below those that systems give to outgoing connections
PATIENCE = 1.0  # seconds that a process leaves to the first one to report a failure that all of them may have
# The same before they are connected, when the first may still be importing. The launcher ends the waiting ones with it; where
# one of them ended earlier, it would end the first instead, before that has said a word.
PATIENCE_AT_START = 10.0

# Running statistics are made equal after each step, for the attribution to find (see batch_norm.py). DDP would copy them
# in each forward pass, also in evaluation, where processes have unequal numbers of batches. Its name for that changes.
_names = inspect.signature(DistributedDataParallel).parameters
_COPYING_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _names else "broadcast_buffers"


class Launch(NamedTuple):
    """Which of how many processes this one is, in all and on its node."""

    rank: int = 0
    processes: int = 1
    on_node: int = 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what torchrun, or srun, says of this process; one process if neither has started it.

    Raises:
        ReldropError: srun has started different numbers of tasks on its nodes.
    """
    variables = {**_from_slurm(environment), **environment}  # torchrun may itself have been started by srun
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= variables.keys():
        return Launch()
    return Launch(*(int(variables[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))


def start_fabric(accelerator: str, precision: str, batch_size: int) -> "Fabric":
    """Return Fabric for one device, or for one in each of the processes of torchrun or srun, connected.

    Raises:
        ReldropError: the devices or the precision are not to be had, or a batch is too small for so many processes.
    """
    launch = launched()
    if batch_size < 2 * launch.processes:
        raise ReldropError(
            f"trainer.batch_size={batch_size} is the batch of all processes together, which gives {launch.processes} "
            "processes less than 2 samples each; start fewer or take larger batches"
        )
    if launch.processes == 1:
        return one_device(accelerator, precision, "trainer.")
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # each process would say that it connects
    os.environ.update({**_from_slurm(os.environ), **os.environ})
    with _usable(accelerator, precision, "trainer.", f" by {launch.on_node} processes on a node"):
        fabric = Fabric(
            accelerator=accelerator,
            devices=launch.on_node,
            num_nodes=launch.processes // launch.on_node,
            precision=precision,
            strategy=DDPStrategy(**{_COPYING_BUFFERS: False}),
            plugins=[TorchElasticEnvironment()],
        )
        fabric.launch()
    return _refuse_half_on_cpu(fabric, precision, "trainer.")


def one_device(accelerator: str, precision: str, group: str = "") -> "Fabric":
    """Return Fabric for one device and this process alone.

    Args:
        group: of the two settings, as messages have it, e.g. "trainer.".

    Raises:
        ReldropError: the device or the precision is not to be had.
    """
    from lightning_fabric import Fabric

    with _usable(accelerator, precision, group):
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    return _refuse_half_on_cpu(fabric, precision, group)


@contextmanager
def _usable(accelerator: str, precision: str, group: str, several: str = "") -> Iterator[None]:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `srun` command is available")  # one process does without
            yield
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        raise ReldropError(
            f"{group}accelerator={accelerator}, {group}precision={precision} cannot be used here{several}: {error}"
        ) from error


def _refuse_half_on_cpu(fabric: "Fabric", precision: str, group: str) -> "Fabric":
    if fabric.device.type == "cpu" and precision == "16-mixed":  # Fabric would quietly take another one
        raise ReldropError(f"{group}precision=16-mixed needs a GPU; on the CPU, take bf16-mixed or 32-true")
    return fabric


def is_distributed() -> bool:
    """Whether this process is connected to others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@functools.cache
def should_report() -> bool:
    """Whether this process shall report the failure that it has: the first one to ask, of all that are connected.

    The others may have failed for the same reason, or only because that process is gone. Where all fail alike, as before
    they are connected, it is the one of rank 0.
    """
    rank = launched().rank
    if not is_distributed():
        if rank:
            time.sleep(PATIENCE_AT_START)
        return rank == 0
    if rank:
        time.sleep(PATIENCE)
    try:
        return dist.distributed_c10d._get_default_store().add("reldrop_failures", 1) == 1
    except (RuntimeError, dist.DistError):  # the process that kept the count has failed and gone
        return False


def disconnect() -> None:
    """Shard from the other processes, at the end."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what torchrun would have set for a task of srun; nothing for a single one, or outside of srun.

    A batch script has SLURM's variables, too, but not those of a step.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "SLURM_PROCID" not in environment:
        return {}
    from lightning_fabric.plugins.environments import SLURMEnvironment

    per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", environment["SLURM_STEP_NUM_TASKS"])
    uniform = re.fullmatch(r"(\d+)(\(x\d+\))?", per_node)
    if uniform is None:
        raise ReldropError(
            f"srun has started {per_node} tasks on its nodes; start as many on each: --ntasks-per-node=N"
        )
    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", "127.0.0.1"))
    step = 97 * int(environment.get("SLURM_STEP_ID", 0))  # two steps of one job may share a node
    port = FIRST_PORT + (int(environment.get("SLURM_JOB_ID", 0)) + step) % PORTS
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": uniform[1],
        "GROUP_RANK": environment["SLURM_NODEID"],
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(nodes),
        "MASTER_PORT": str(port),
    }

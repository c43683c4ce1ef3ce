"""Several processes: who has started them, how they are connected, and how all of them end when one fails."""

import inspect
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from reldrop.utils.errors import ReldropError

# torch and Fabric are imported where they are used: they take seconds, and a mistake is to be named before.
if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_PORT, PORTS = 15_000, 15_000  # for SLURM; below those that systems give to outgoing connections
TURN_SECONDS = 5.0  # within them, processes fail alike, and a launcher ends all after the first; see `abort`


class Launch(NamedTuple):
    """Which of how many processes this one is, in all and on its node."""

    rank: int = 0
    processes: int = 1
    on_node: int = 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what torchrun or srun says of this process; one process if neither has started it.

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
        ReldropError: the devices or the precision are unavailable, or a batch is too small for so many processes.
    """
    launch = launched()
    if batch_size < 2 * launch.processes:
        raise ReldropError(
            f"trainer.batch_size={batch_size} is the batch of all processes together, which gives {launch.processes} "
            "processes less than 2 samples each; start fewer or take larger batches"
        )
    if launch.processes == 1:
        return one_device(accelerator, precision, "trainer.precision")
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # each process would log that it connects
    os.environ.update({**_from_slurm(os.environ), **os.environ})
    # Running statistics are made equal after each step, for the attribution to find (see sync_batch_norm.py). DDP would copy
    # them in each forward pass, also in evaluation, where processes have unequal numbers of batches. Its name for that changes.
    names = inspect.signature(DistributedDataParallel).parameters
    copying = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    fabric = one_device(
        accelerator,
        precision,
        "trainer.precision",
        f" by {launch.on_node} processes on a node",
        devices=launch.on_node,
        num_nodes=launch.processes // launch.on_node,
        strategy=DDPStrategy(**{copying: False}),
        plugins=[TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


def one_device(accelerator: str, precision: str, key: str = "precision", several: str = "", **options: Any) -> "Fabric":
    """Return Fabric for one device and this process alone, unless `options` say otherwise.

    Args:
        key: of the precision in the configuration, for messages.
        several: for messages as well: by how many processes it is used.
        options: further ones of Fabric.

    Raises:
        ReldropError: the device or the precision is unavailable.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `srun` command is available")  # one process does without
            warnings.filterwarnings("ignore", ".*fp16 is not supported on CPU")  # refused below
            fabric = Fabric(accelerator=accelerator, precision=precision, **{"devices": 1, **options})
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        raise ReldropError(
            f"machine.accelerator={accelerator}, {key}={precision} cannot be used here{several}: {error}"
        ) from error
    if fabric.device.type == "cpu" and precision == "16-mixed":  # Fabric would take another one without a word
        raise ReldropError(f"{key}=16-mixed needs a GPU; on the CPU, take bf16-mixed or 32-true")
    return fabric


def gather(value: Any) -> list[Any]:
    """Return what each of the connected processes passes, in the order of their ranks; all of them call it."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def abort(message: str, known: bool = True) -> NoReturn:
    """End this process with code 1 and a message, and with it the others of its run.

    Mostly all processes fail alike, or one fails and the others only because it is gone. So the first process prints at once
    what it can name, and the launcher ends the others meanwhile. All else waits its turn, in case it still has to be said.

    Args:
        message: what to print; it may be empty.
        known: whether the failure has a name; else it may be a consequence of another.
    """
    rank, processes, _ = launched()
    if processes == 1:
        sys.exit(message or 1)
    time.sleep(TURN_SECONDS * ((rank > 0) + 2 * (not known)))
    sys.stdout.flush()
    if message:
        print(f"[rank {rank}] {message}" if rank else message, file=sys.__stderr__, flush=True)
    os._exit(1)  # a process that winds up might wait for others, which wait for it


def disconnect() -> None:
    """Leave the other processes, at the end."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what torchrun would have set for a task of srun; nothing for a single one, or outside of srun.

    A batch script has SLURM's variables as well, but not those of a step.
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

"""Threads by the work: several threads wait for each other, which takes longer than short operations do."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from reldrop.attribution.evaluation import evaluation_mode

SMALL = 5e9  # floating-point operations in the forward pass of a batch; below, one thread is about as fast as two

logger = logging.getLogger("reldrop")


@contextmanager
def fitting_threads(model: nn.Module, sample: Tensor, batch_size: int) -> Iterator[None]:
    """Let torch compute with one thread inside the block if the network is small, and with as many as before after it.

    Beside another busy process, a core that several threads wait for makes each short operation late. OMP_NUM_THREADS of the
    environment is left as it is.

    Args:
        model: the network, on the CPU.
        sample: one input of it, (1, ...).
        batch_size: of the training.
    """
    before = torch.get_num_threads()
    if before > 1 and "OMP_NUM_THREADS" not in os.environ:
        with FlopCounterMode(display=False) as counter, evaluation_mode(model), torch.no_grad():
            model(sample)
        if counter.get_total_flops() * batch_size < SMALL:
            logger.info("one thread: the network is small; OMP_NUM_THREADS=%d before the command takes more", before)
            torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Run by test_processes.py in several processes: trains one configuration after the other, perhaps until an error."""

import json
import sys
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from reldrop.backbones import point_network, timm_model
from reldrop.backbones.sync_batch_norm import SyncBatchNorm
from reldrop.distributed.launch import disconnect
from reldrop.distributed.sharding import BatchSharder
from reldrop.train import train
from tests.helpers.hooks import FailBeforeStep
from tests.helpers.runs import config


def train_until(step: int | None, folder: Path, overrides: list[str]) -> None:
    """Train without dropout, which each process draws for itself; after `step` steps, if given, the power goes in all."""
    dropout = nn.Dropout.forward
    nn.Dropout.forward = lambda self, inputs: inputs
    try:
        with suppress(OSError):
            train(config(folder, *overrides), hooks=[FailBeforeStep(step)])
    finally:
        nn.Dropout.forward = dropout


def gradient_errors() -> dict[str, float]:
    """Return how far gradients and statistics of shares are from those of the batch, in float64, with batch norm."""
    torch.manual_seed(0)
    inputs = {"resnet_tiny": torch.randn(9, 3, 16, 16), "pointnet": torch.randn(9, 32, 6)}
    inputs["pointnet2_ssg"] = torch.randn(9, 64, 6)
    targets = torch.randint(10, (9,))
    sharder = BatchSharder(dist.get_rank(), dist.get_world_size())
    errors = {}
    for name, batch in inputs.items():
        build = partial(timm_model, size=16) if name == "resnet_tiny" else partial(point_network, channels=6)
        whole = build(name, num_classes=10).double().train()
        for module in whole.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        shared = deepcopy(whole)
        together = SyncBatchNorm(shared)
        errors[name] = 0.0
        for count in (9, 3):  # of 3, no process can have 2 of its own
            shard = sharder.shard(count)
            together.shared = count > 3
            for model, rows, weight in (
                (whole, slice(count), 1),
                (shared, shard.rows, sharder.processes * shard.weight),
            ):
                model.zero_grad()
                loss = F.cross_entropy(model(batch[rows].double()), targets[rows])
                ((loss + (getattr(model, "penalty", None) or 0.0)) * weight).backward()
            for a, b in zip(whole.parameters(), shared.parameters(), strict=True):
                dist.all_reduce(b.grad)
                errors[name] = max(errors[name], float((a.grad - b.grad / sharder.processes).abs().max()))
        for a, b in zip(whole.buffers(), shared.buffers(), strict=True):
            errors[name] = max(errors[name], float((a - b).abs().max()))
    return errors


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        train_until(job["step"], Path(job["folder"]), job["overrides"])
    found = gradient_errors()
    if dist.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
    disconnect()

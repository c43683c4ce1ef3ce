"""What an epoch adds up to."""

import pytest
import torch

from reldrop.distributed.sharding import Shard
from reldrop.training.meters import EpochMeter

CPU = torch.device("cpu")


def updated(meter: EpochMeter, batches: list[int]) -> EpochMeter:
    """Count batches of these sizes, of which the loss is the size, and half of the last sample is occluded."""
    for size in batches:
        inputs = torch.zeros(size, 3, 4, 4)
        occluded = inputs.clone()
        occluded[-1, 0, :2] = 1  # in one channel
        loss, share = meter.update(torch.tensor(float(size)), inputs, occluded, Shard.whole(size))
        assert loss == size
        assert share == 0.5 / size
        meter.add_relevance(torch.full((size, 4, 4), size / 16))
    return meter


def test_an_epoch_by_hand() -> None:
    meter = updated(EpochMeter(CPU), [4, 4, 2])
    meter.gather()
    record = meter.compute()
    assert record["train/loss"] == pytest.approx((16 + 16 + 4) / 10)
    assert record["train/occluded_share"] == pytest.approx(3 * 0.5 / 10)
    assert record["attribution/conservation"] == 4
    assert record["speed/samples_per_second"] > 0
    assert record["attribution/share_of_time"] == 0


def test_a_resumed_epoch_ends_with_the_same_figures() -> None:
    whole, first, second = (EpochMeter(CPU) for _ in range(3))
    updated(whole, [4, 4, 2])
    updated(first, [4])
    first.gather()
    second.load_state_dict(first.state_dict())
    updated(second, [4, 2])
    records = []
    for meter in (whole, second):
        meter.gather()
        records.append({key: value for key, value in meter.compute().items() if key != "speed/samples_per_second"})
    assert records[0] == records[1]


def test_an_epoch_without_occlusion_has_no_relevance() -> None:
    meter, inputs = EpochMeter(CPU), torch.zeros(2, 8, 3)
    meter.update(torch.tensor(1.0), inputs, inputs, Shard.whole(2))
    meter.gather()
    assert (record := meter.compute())["attribution/conservation"] is None
    assert record["train/occluded_share"] == 0
    meter.reset()
    assert meter.samples == 0
    assert not meter.sums.any()

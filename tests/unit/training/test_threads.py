"""Threads by the work."""

import pytest
import torch

from reldrop.backbones import timm_model
from reldrop.training.threads import fitting_threads


@pytest.mark.parametrize(
    ("size", "batch_size", "variable", "expected"),
    [(8, 128, None, 1), (64, 512, None, 2), (8, 128, "2", 2)],
)
def test_one_thread_for_a_small_network(
    monkeypatch: pytest.MonkeyPatch, size: int, batch_size: int, variable: str | None, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    model = timm_model("resnet_tiny", num_classes=10, size=size).train()
    buffers = [value.clone() for value in model.buffers()]
    try:
        with fitting_threads(model, torch.zeros(1, 3, size, size), batch_size):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert model.training
    assert all(torch.equal(old, new) for old, new in zip(buffers, model.buffers(), strict=True))

"""Fixtures that all tests share, and markers that skip what the machine lacks."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each of the processes that share the machine
if "PYTEST_XDIST_WORKER" not in os.environ:  # in the process that starts the others, which inherit this
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # What libraries leave in the folder for temporary files goes when the tests are over.
    _temporary = tempfile.TemporaryDirectory(prefix="reldrop-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = _temporary.name

import importlib.util
import os
import shutil
import tempfile

import pytest
import torch
from torch import nn

from reldrop.backbones import timm_model
from reldrop.reporting.records import read_runs
from tests.helpers.machine import missing_data, slurm_answers
from tests.helpers.tables import RUNS

LACKS = {
    "cuda": lambda item: None if torch.cuda.is_available() else "needs a CUDA device",
    "slurm": lambda item: None if slurm_answers() else "needs SLURM",
    "real_data": lambda item: missing_data(*item.get_closest_marker("real_data").args),
    "submitit": lambda item: None if importlib.util.find_spec("submitit") else "needs submitit",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the machine cannot do, and say why."""
    for item in items:
        for name, lacking in LACKS.items():
            if item.get_closest_marker(name) and (reason := lacking(item)):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def records():
    records, remarks = read_runs(RUNS)
    assert not remarks
    return records


@pytest.fixture
def results(tmp_path):
    """A copy of the fixture's runs, to be spoiled."""
    shutil.copytree(RUNS / "runs", tmp_path / "results" / "runs")
    return tmp_path / "results"


@pytest.fixture
def tiny() -> nn.Module:
    """A small ResNet in float32, in training mode."""
    torch.manual_seed(0)
    return timm_model("resnet_tiny", num_classes=10, size=16)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 16, 16, generator=draws), torch.randint(10, (6,), generator=draws)

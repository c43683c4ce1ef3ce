"""Fixtures of this folder."""

import pytest

from reldrop.runs.run import Run
from tests.helpers.run_folders import make_config


@pytest.fixture
def run(cfg):
    with Run(cfg) as run:
        yield run


@pytest.fixture
def cfg(tmp_path):
    return make_config(tmp_path)

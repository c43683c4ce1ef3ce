"""The benchmark runs and prints what it promises; its figures are nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_benchmark_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    output = tmp_path / "figures.json"
    options = [
        "--backbone",
        "resnet_tiny",
        "--size",
        "16",
        "--batch-size",
        "4",
        "--rounds",
        "1",
        "--zennit",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, str(script), *options, "--json", str(output)], capture_output=True, text=True, check=True
    )
    assert "| RelDrop-block, p = 1 |" in done.stdout
    figures = json.loads(output.read_text())["figures"]
    assert figures["plain step"]["ratio"] == 1
    assert figures["floor of RelDrop, p = 1"]["ratio"] > 1

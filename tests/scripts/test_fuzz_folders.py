"""Odd folders give data or a sentence."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_folders.py"


def test_odd_folders() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "40", "0"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data, sentences, faults = (int(part.split(": ")[1]) for part in done.stdout.splitlines()[-1].split(", "))
    assert min(data, sentences) >= 5
    assert (data + sentences, faults) == (40, 0)

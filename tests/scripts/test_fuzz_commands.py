"""Right and wrong command lines, a sample of them."""

import subprocess
import sys
from pathlib import Path

from tests.helpers.sweeps import ENVIRONMENT

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_commands.py"


def test_command_lines_end_as_they_should(tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.exit(runpy.run_path({str(SCRIPT)!r})['main'](every=20))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fault: 0" in done.stdout

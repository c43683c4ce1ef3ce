"""What this machine has: SLURM, and folders of real data."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.helpers.paths import ROOT

DATA = Path(os.environ.get("RELDROP_DATA", ROOT / "data"))


def missing_data(*folders: str) -> str | None:
    """Return why tests of `folders` of real data are skipped, or None if all are there."""
    missing = [folder for folder in folders if not (DATA / folder).is_dir()]
    return f"needs {', '.join(missing)} in RELDROP_DATA" if missing else None


@cache
def slurm_answers() -> bool:
    """Return whether the controller of SLURM answers."""
    if shutil.which("sbatch") is None or shutil.which("scontrol") is None:
        return False
    try:
        return subprocess.run(["scontrol", "ping"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False

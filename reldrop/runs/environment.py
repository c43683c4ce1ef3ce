"""What a run was started on: versions, devices and command."""

import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reldrop.distributed.launch import launched

OWN_FOLDER = "RELDROP_CONFIG_DIR"  # the environment variable that hands --config-dir on to the processes of a sweep
PACKAGES = ("torch", "torchvision", "timm", "zennit", "hydra-core", "lightning-fabric", "numpy", "trimesh")


def environment(overrides: Sequence[str] | None) -> dict[str, Any]:
    """Describe what a start runs on.

    Args:
        overrides: what its configuration was composed with; None if that is not known.
    """
    import torch  # takes a second

    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "overrides": overrides,
        "config_dir": os.environ.get(OWN_FOLDER),
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "processes": launched().processes,
        "devices": cuda or [platform.processor() or platform.machine()],
        "git": _commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "packages": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _commit(checkout: Path) -> dict[str, Any] | None:
    """Return the commit of a source checkout and whether code or configuration differ from it; None elsewhere."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()

    try:
        commit, top = git("rev-parse", "HEAD", "--show-toplevel")
        if Path(top) != checkout.resolve():  # installed into an environment inside some other project's checkout
            return None
        return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", "reldrop", "conf"))}
    except (OSError, subprocess.SubprocessError):
        return None

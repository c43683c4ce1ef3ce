"""The wheel holds all that the commands need, wherever they are started."""

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

COMMANDS = ("train", "evaluate", "tables", "figures", "explain")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripts of an environment with the wheel, which finds all other packages in the present one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", ROOT, "--no-deps", "-w", folder], check=True, timeout=300)
    environment = folder / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    return environment / "bin"


def run(command: list[object], folder: Path, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RELDROP_DATA")}
    ended = subprocess.run(
        list(map(str, command)), cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(scripts: Path, tmp_path: Path) -> None:
    where = run([scripts / "python", "-c", "import reldrop; print(reldrop.__file__)"], tmp_path)
    assert Path(where).is_relative_to(scripts.parent)
    for command in COMMANDS:
        assert run([scripts / f"reldrop-{command}", "--version"], tmp_path) == f"reldrop {version('reldrop')}\n"
    quick = ["trainer.epochs=1", "trainer.max_steps=2", "dataset.subset=64", "dataset.test_subset=20"]
    run([scripts / "reldrop-train", "machine.workers=0", *quick], tmp_path)
    (folder,) = tmp_path.glob("results/runs/*/reldrop_block/seed0-*")
    assert (folder / "summary.json").exists()
    run([scripts / "reldrop-figures", f"run={folder}"], tmp_path)
    assert "reldrop_block" in run([scripts / "reldrop-tables"], tmp_path)


@pytest.mark.slow
def test_choices_are_completed(scripts: Path, tmp_path: Path) -> None:
    line = "reldrop-train augmentation=rel"
    installed = run([scripts / "reldrop-train", "-sc", "install=bash"], tmp_path)
    assert "-F hydra_bash_completion reldrop-train" in installed
    offered = run([scripts / "reldrop-train", "-sc", "query=bash"], tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert "augmentation=reldrop_block" in offered.split()


def test_the_version_needs_no_torch() -> None:
    code = "import sys, reldrop; print(reldrop.__version__); assert 'torch' not in sys.modules"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=240) == f"{version('reldrop')}\n"


def test_names_for_scripts() -> None:
    import reldrop
    from reldrop.attribution import check, relevance
    from reldrop.augmentation import RelDrop

    assert (reldrop.RelDrop, reldrop.check, reldrop.relevance) == (RelDrop, check, relevance)
    with pytest.raises(AttributeError, match="no attribute 'reldrop'"):
        _ = reldrop.reldrop

"""The parts of docs/extending.md, as their user would have them."""

import re
from pathlib import Path

from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "extending.md"
FILES = {
    name: f"# {name}\n{text}" for name, text in re.findall(r"```\w+\n# ([\w/]+\.\w+)\n(.*?)```", PAGE.read_text(), re.S)
}


def write_parts(folder: Path) -> Path:
    """Write the files of the page into a folder, and return it."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder

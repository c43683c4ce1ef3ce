"""Begin a part of your own: python -m reldrop.new augmentation|attribution|dataset|backbone|metric NAME."""

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from reldrop.config import CONFIG_PATH
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_text_atomic, writing
from reldrop.utils.text import unknown

TEMPLATES = Path(__file__).parent / "templates"
# Part -> group of the configuration that it is a choice of. Templates call it my_part, and its class MyPart.
GROUPS = {part: part for part in ("augmentation", "attribution", "dataset", "backbone")} | {"metric": "monitor"}


def write(part: str, name: str, folder: Path) -> list[Path]:
    """Write the Python file, the YAML file and the test of a part into a folder, and return them.

    Args:
        part: one of `GROUPS`.
        name: of the part and its files.
        folder: where the part is to be.

    Raises:
        ReldropError: for a part that there is not, a name that cannot be one, or a file that exists.
    """
    if part not in GROUPS:
        raise ReldropError(unknown(f"{part} is no part", part, GROUPS, f"choose {', '.join(GROUPS)}"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ReldropError(f"NAME={name} must be a name in Python, of small letters, digits and _, e.g. my_{part}")
    group = GROUPS[part]
    files = {"part.py": f"{name}.py", "part.yaml": f"{group}/{name}.yaml", "test_part.py": f"test_{name}.py"}
    paths = {template: folder / file for template, file in files.items()}
    if existing := [path for path in paths.values() if path.exists()]:
        raise ReldropError(f"{existing[0]} exists already; choose another name, or remove it")
    if Path(CONFIG_PATH, group, f"{name}.yaml").exists() or importlib.util.find_spec(name) is not None:
        raise ReldropError(f"NAME={name} is the name of a choice of {group} or of a Python module; choose another one")
    class_name = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    for template, path in paths.items():
        text = (TEMPLATES / part / template).read_text().replace("my_part", name).replace("MyPart", class_name)
        with writing(str(path), "start the command in a folder that can be written"):
            path.parent.mkdir(exist_ok=True)
            write_text_atomic(path, text)
    return list(paths.values())


def command() -> None:
    """Write the files that the command line asks for into the current folder, and print what to do with them."""
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    part, name = sys.argv[1:]
    try:
        for path in write(part, name, Path()):
            print(f"wrote {path}")
    except ReldropError as error:
        sys.exit(f"error: {error}")
    print(f"test it:         python -m pytest test_{name}.py")
    print(f"train with it:   python -m reldrop.train --config-dir . {GROUPS[part]}={name}")


if __name__ == "__main__":
    command()

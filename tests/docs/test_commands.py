"""Every command that the README and docs show is one that works: its configuration composes and passes all checks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from reldrop import new, tables
from reldrop.config import CONFIG_PATH, check_keys
from tests.helpers.extending import write_parts
from tests.helpers.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Return the words behind `-m reldrop.COMMAND` of each line of a page's shell blocks, the command first."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    starts = [(line, next((n for n, word in enumerate(line) if word.startswith("reldrop.")), None)) for line in lines]
    return [[line[n].removeprefix("reldrop."), *line[n + 1 :]] for line, n in starts if n is not None]


@pytest.fixture(autouse=True, scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The current folder is the one with the parts of docs/extending.md, and what reldrop.new writes there."""
    folder = write_parts(tmp_path_factory.mktemp("own"))
    new.write("augmentation", "my_method", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield


def composed(command: str, words: list[str]) -> DictConfig:
    overrides = [word for word in words if word != "-m"]
    if "--config-dir" in words:
        place = overrides.index("--config-dir")
        assert overrides[place + 1] == "."
        overrides[place : place + 2] = [f"hydra.searchpath=[file://{Path.cwd()}]"]
    # Of a sweep, the first run.
    overrides = [word if "[" in word or word.startswith("+experiment") else word.split(",")[0] for word in overrides]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose(command, overrides)


TRAIN = [(page.name, words) for page in PAGES for command, *words in commands(page) if command == "train"]
OTHERS = [(page.name, *words) for page in PAGES for words in commands(page) if words[0] not in ("train", "new")]


@pytest.mark.parametrize(
    ("page", "words"), TRAIN, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_trainings_pass_all_checks(page: str, words: list[str]) -> None:
    check_keys(composed("train", words))


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_other_commands_compose(words: tuple[str, ...]) -> None:
    _, command, *rest = words
    composed(command, tables.overrides(rest) if command == "tables" else rest)


def test_pages_have_commands() -> None:
    assert len(TRAIN) > 15
    assert len(OTHERS) > 8
    assert {command for page in PAGES for command, *_ in commands(page)} == {
        *("train", "evaluate", "explain", "figures", "tables", "new")
    }


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists() or (page.parent / f"{link}.md").exists(), (page.name, link)

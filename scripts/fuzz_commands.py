"""Right and wrong command lines of all commands: python scripts/fuzz_commands.py [COMMAND [PART OF A LINE]].

fuzz_commands.txt has the lines and what is to become of them. Each runs as typed, in a process forked from this one, which has
imported the libraries already. A training that is let through tries one batch of everything. A line that ends otherwise than
it should is printed with what it said, and the exit code is then 1.
"""

import contextlib
import os
import re
import runpy
import shlex
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

LINES = Path(__file__).with_suffix(".txt")
QUICK = ["trainer.fast_dev_run=true", "trainer.batch_size=8"]
HYDRA = {Path("results"), Path("results/hydra"), Path("results/hydra/multirun.yaml")}  # before it looks at the choices
LOG = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING) ")


class Line(NamedTuple):
    """A command line of `command`, whether it is `right`, and what its sentence must have if it is not."""

    command: str
    right: bool
    text: str
    named: str


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    written: set[Path]


def read_lines(command: str = "", part: str = "") -> Iterator[Line]:
    """Yield the lines of a command that have a part, in order; all by default."""
    section = ""
    for row in LINES.read_text().splitlines():
        if header := re.fullmatch(r"\[(.*)\]", row):
            section = header[1]
        elif row and not row.startswith("#"):
            text, _, named = row.partition(" => ")
            key = shlex.split(text)[-1].partition("=")[0].lstrip("+~-").rpartition(".")[2]
            found = Line(section.split()[0], section.endswith("right"), text, named or key)
            if command in ("", found.command) and part in text:
                yield found


def prepare() -> None:
    """Fill the current folder with what the lines speak of, and a finished run."""
    draws = np.random.default_rng(0)
    for folder in ("photos", "photos, a=b [1]"):
        for label in "abc":
            Path(folder, label).mkdir(parents=True)
            for number in range(6):
                pixels = draws.integers(256, size=(12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(Path(folder, label, f"{number}.png"))
    Path("empty").mkdir()
    Path("empty.pt").write_bytes(b"")
    Path("text.pt").write_text("no checkpoint\n")
    os.environ.update(RELDROP_DATA=os.getcwd(), HOME=os.getcwd())
    few = ["trainer.epochs=2", "dataset.subset=64", "dataset.test_subset=32", "monitor.occlusion_samples=4"]
    outcome = run("train", [*few, "results_dir=RESULTS", "trainer.batch_size=16"])
    if outcome.code:
        sys.exit(outcome.err)
    (folder,) = Path("RESULTS").glob("runs/*/*/seed*")
    Path("RUN").symlink_to(folder)


def run(command: str, words: list[str]) -> Outcome:
    """Run a command as its own process does, forked from this one."""
    before = set(Path().rglob("*"))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        if (child := os.fork()) == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [command, *words]
            code = 0
            try:
                runpy.run_module(f"reldrop.{command}", run_name="__main__", alter_sys=False)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            except BaseException:
                code = 1
                traceback.print_exc()
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return Outcome(code, out.read(), err.read(), set(Path().rglob("*")) - before)


def fault(line: Line, outcome: Outcome) -> str | None:
    """Return what is wrong with what became of a line; None if nothing."""
    if "Traceback" in outcome.out + outcome.err:
        return "traceback"
    if line.right:
        return f"exit code {outcome.code}" if outcome.code else None
    if not outcome.code:
        return "accepted"
    said = [row for row in outcome.err.splitlines() if not LOG.match(row)]
    if len(said) != 1:
        return "not one sentence"
    if line.named.lower() not in said[0].lower():
        return f"does not name {line.named}"
    written = {
        path for path in outcome.written if path not in HYDRA and path.parts[0][0] != "."
    }  # of libraries, at home
    return f"wrote {', '.join(map(str, sorted(written)))}" if written else None


def main(command: str = "", part: str = "", every: int = 1) -> int:
    """Run the lines, or one of `every` so many, and print what came of them; return 1 if one did not end as it should."""
    torch.set_num_threads(1)  # threads do not survive a fork
    for name in (
        "timm",
        "torchvision",
        "zennit.composites",
        "reldrop.training.run",
        "reldrop.evaluation",
        "reldrop.plotting",
    ):
        with contextlib.suppress(ImportError):
            __import__(name)
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare()
        for line in [*read_lines(command, part)][::every]:
            words = shlex.split(line.text)
            outcome = run(line.command, [*QUICK, *words] if line.command == "train" else words)
            wrong = fault(line, outcome)
            results["fault" if wrong else "right" if line.right else "refused"] += 1
            if wrong:
                print(
                    f"{line.command} {line.text}\n  FAULT: {wrong}\n  {(outcome.err or outcome.out)[-1500:]}",
                    flush=True,
                )
    print(", ".join(f"{what}: {results[what]}" for what in ("right", "refused", "fault")))
    return 1 if results["fault"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

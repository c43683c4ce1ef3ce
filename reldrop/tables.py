"""Tables of finished runs: python -m reldrop.tables [RESULTS] [KEY=VALUE ...]; how far runs are: ... status [RESULTS]."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from reldrop.command import run_command
from reldrop.config import CONFIG_PATH, check
from reldrop.reporting.formats import FORMATS, provenance
from reldrop.reporting.layouts import Table
from reldrop.reporting.records import read_runs, select
from reldrop.reporting.request import Request
from reldrop.reporting.status import status_table
from reldrop.reporting.wandb_runs import read_wandb
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, write_text_atomic, writing

LISTS = {"metric": ",", "reldrop": ",", "where": r",(?=[\w.]+!?=)"}  # setting -> what is between its values


def tables(request: Request) -> None:
    """Print the table that is asked for, or write it or all tables.

    Raises:
        ReldropError: for anything that the user can correct.
    """
    results = Path(request.results_dir).expanduser()
    if request.status:
        print(status_table(results), end="")
        return
    records, remarks = read_runs(results) if request.source is None else read_wandb(request.source)
    for remark in remarks:
        print(f"warning: {remark}", file=sys.stderr)
    if not records:
        place = request.source or results / "runs"
        raise ReldropError(f"no finished runs under {place}; start one with python -m reldrop.train")
    records = select(records, request.where)
    if request.output is None:
        print(FORMATS[request.format or "terminal"][1](request.table(records)), end="")
        return
    output = Path(request.output).expanduser()
    if output.suffix and not output.is_dir():
        suffixes = {suffix: name for name, (suffix, _) in FORMATS.items()}
        if request.format is None and output.suffix not in suffixes:
            raise ReldropError(f"output={output}: the suffix tells no format; use {', '.join(suffixes)}, or set format")
        _write(request.table(records), output, request.format or suffixes[output.suffix], remarks)
        return
    refused = []
    for name, each, members in request.every_table(records):
        try:
            table = each.table(members)
        except ReldropError as error:  # the other tables are written
            refused.append(f"{name}: {error}")
            continue
        for form in [request.format] if request.format else FORMATS:
            _write(table, output / f"{name}{FORMATS[form][0]}", form, remarks)
    if refused:
        raise ReldropError("; ".join(refused))


def _write(table: Table, output: Path, form: str, remarks: Sequence[str]) -> None:
    """Write a table, and the runs that it came from to FILE.runs.json."""
    with writing(str(output), "set output to another file"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(output, FORMATS[form][1](table))
        write_json_atomic(output.with_name(f"{output.name}.runs.json"), provenance(table, remarks))
    print(output)


def overrides(words: Sequence[str]) -> list[str]:
    """Return the words of the command line as Hydra takes them: RESULTS and `status` as settings, lists and paths quoted."""
    result: list[str] = []
    lists: dict[str, list[str]] = {}
    for word in words:
        is_folder = re.fullmatch("[^-=][^=]*", word) or Path(word).is_dir()  # in a name, there may be a =
        key, equals, value = ("results_dir", "=", word) if is_folder else word.partition("=")
        if word == "status":
            result.append("status=true")
        elif key in LISTS:
            lists.setdefault(key, []).extend(re.split(LISTS[key], re.sub(r"^\[(.*)\]$", r"\1", value)))
        else:
            is_path = key in ("results_dir", "source", "reference", "output")
            result.append(f"{key}{equals}{json.dumps(value) if is_path else value}")
    return [*result, *(f"{key}={json.dumps(values)}" for key, values in lists.items())]


def main(cfg: DictConfig) -> None:
    check(cfg, Request)
    tables(Request(**OmegaConf.to_container(cfg, resolve=True)))


def command() -> None:
    """Run `main`; print the settings with their comments as help."""
    if {"-h", "--help"} & {*sys.argv}:
        print(Path(CONFIG_PATH, "tables.yaml").read_text().partition("hydra:\n")[0], end="")
        return
    sys.argv[1:] = overrides(sys.argv[1:])
    run_command(main, "tables", "tables that are there are whole")


if __name__ == "__main__":
    command()

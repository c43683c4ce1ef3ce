"""Tables of LaTeX need no editing."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from reldrop.reporting.formats import latex, markdown
from reldrop.reporting.layouts import table_of_settings
from tests.helpers.tables import TOP1, arm, changed

NAME = r"a_b $x$ ^ % & # {c} ~ \d <e> |"
PAGE = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX")
def test_any_names_compile_and_fit_a_page(records, tmp_path):
    other = [changed(record, dataset__name=NAME) for record in records]
    (tmp_path / "table.tex").write_text(latex(table_of_settings([*records, *other], [TOP1], 0.95)))
    (tmp_path / "page.tex").write_text(PAGE)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_groups_of_data_sets_and_the_number_of_seeds_in_the_caption(records):
    two = [changed(record, dataset__name=name) for name in ("a", "b") for record in arm(records, "none")]
    text = latex(table_of_settings(two, [TOP1], 0.95))
    assert r"\textit{a}} \\" in text
    assert text.index(r"\textit{a}") < text.index(r"\textit{b}")
    assert "over n = 3 seeds" in text


def test_names_that_are_not_utf8_can_be_written(records):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    table = table_of_settings(
        [replace(each, settings={**each.settings, "dataset.name": name}) for each in records], [TOP1], 0.95
    )
    assert "caf\ufffd" in markdown(table).encode().decode()
    assert "caf?" in latex(table).encode().decode()

"""The snippets of docs/attribution.md run as they are written."""

import re

import pytest

from reldrop.attribution import rules
from tests.helpers.paths import ROOT

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "attribution.md").read_text(), re.S)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_runs(snippet: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    exec(snippet, {})
    if "check(" in snippet:
        assert "relevance of the input + absorbed - logit" in capsys.readouterr().out


def test_there_are_some() -> None:
    assert len(SNIPPETS) >= 2

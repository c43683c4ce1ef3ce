"""Readme."""

import re

import torch

from tests.helpers.paths import ROOT


def test_the_snippet_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", text, re.S).group(1)
    from reldrop.backbones import timm_model

    torch.manual_seed(0)
    model = timm_model("resnet_tiny", num_classes=10, size=16)
    loader = [(torch.randn(4, 3, 16, 16), torch.randint(10, (4,))) for _ in range(2)]
    before = [value.clone() for value in model.parameters()]
    exec(snippet, {"model": model, "loader": loader, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)})
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))

"""The snippets of docs/library.md run as they stand, for a few steps."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reldrop.augmentation import RelDrop
from reldrop.backbones import timm_model
from tests.helpers.paths import ROOT

BATCHES = 3
MISSING = "needs {}: pip install '.[loops]'"


def snippet(section: str) -> str:
    page = (ROOT / "docs" / "library.md").read_text()
    return re.search(rf"## {section}\n.*?```python\n(.*?)```", page, re.S).group(1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return timm_model("resnet_tiny", num_classes=10, size=32).train()


def batches() -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 3, 32, 32, generator=draws), torch.randint(10, (4,), generator=draws)) for _ in range(BATCHES)
    ]


@pytest.fixture
def occluded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The share of values that each call of RelDrop changed. All samples are occluded."""
    shares: list[float] = []
    forward = RelDrop.forward

    def followed(self: RelDrop, inputs: Tensor, *args: Any) -> Tensor:
        self.occlude.probability = 1.0
        outputs = forward(self, inputs, *args)
        shares.append(float((outputs != inputs).double().mean()))
        return outputs

    monkeypatch.setattr(RelDrop, "forward", followed)
    return shares


def run(section: str, **names: Any) -> dict[str, Any]:
    exec(snippet(section), names)
    return names


def assert_trained(model: nn.Module, before: list[Tensor], shares: list[float]) -> None:
    assert len(shares) == BATCHES
    assert all(0 < share < 1 for share in shares)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def copies(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("section", ["Plain torch", "timm"])
def test_loops(section: str, occluded: list[float]) -> None:
    model = network()
    before = copies(model)
    run(section, model=model, loader=batches(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert_trained(model, before, occluded)


def test_several_processes(occluded: list[float], tmp_path: Path) -> None:
    model = network()
    before = copies(model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run("Several processes, half precision, compiling", model=model, loader=batches(), optimizer=optimizer)
    finally:
        dist.destroy_process_group()
    assert_trained(model, before, occluded)


def test_relevance_alone() -> None:
    inputs, targets = batches()[0]
    assert run("Relevance alone", model=network(), inputs=inputs, targets=targets)["maps"].shape == (4, 32, 32)


def test_lightning(occluded: list[float], tmp_path: Path) -> None:
    pl = pytest.importorskip("lightning.pytorch", reason=MISSING.format("lightning"))
    model = network()
    before, names = copies(model), list(model.state_dict())
    module = run("Lightning")["Classifier"](model)
    assert list(module.state_dict()) == [f"network.{name}" for name in names]
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    loaders = [DataLoader(batches(), batch_size=None) for _ in range(2)]  # of training and validation
    trainer.fit(module, *loaders)
    assert_trained(model, before, occluded)
    assert 0 <= trainer.callback_metrics["accuracy"] <= 1
    saved = torch.load(next(tmp_path.rglob("*.ckpt")), weights_only=False)["state_dict"]
    assert list(saved) == list(module.state_dict())


def tiny_transformers() -> dict[str, nn.Module]:
    transformers = pytest.importorskip("transformers", reason=MISSING.format("transformers"))
    pytest.importorskip("accelerate", reason=MISSING.format("accelerate"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vit = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=10)
    resnet = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return {
        "vit": transformers.ViTForImageClassification(vit),
        "resnet": transformers.ResNetForImageClassification(resnet),
    }


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_hugging_face_trainer(name: str, occluded: list[float], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_transformers()[name]
    from transformers import TrainingArguments

    items = [
        {"pixel_values": image, "labels": label}
        for images, labels in batches()
        for image, label in zip(images, labels, strict=True)
    ]
    before = copies(model)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=BATCHES,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = run("Hugging Face Trainer")["RelDropTrainer"](model, arguments, train_dataset=items, eval_dataset=items)
    trainer.train()
    assert_trained(model, before, occluded)
    assert trainer.evaluate()["eval_loss"] > 0
    assert len(occluded) == BATCHES  # none in the evaluation

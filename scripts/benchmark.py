"""Speed of a training step with each augmentation, as ratios to the plain step: python scripts/benchmark.py.

The arms take turns, so that a machine that slows down slows them all; each figure is the median over the rounds. The floor
of RelDrop at p = 1 is what it cannot do without: the plain step, a forward pass in evaluation mode, and a plain gradient of
the target's logit to the input.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from reldrop.attribution import GradientLRP, ZennitLRP
from reldrop.augmentation import NoAugmentation, RandomErasing, RelDropBlock, RelDropPatch, RelDropPixel
from reldrop.backbones import resnet


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    augmentation: Callable[..., Tensor],
    relevance: Callable[..., Tensor] | None,
    inputs: Tensor,
    targets: Tensor,
) -> None:
    """The step of reldrop.loop without its bookkeeping."""
    model.train()
    logits = model(augmentation(inputs, targets, relevance))
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(logits, targets).backward()
    optimizer.step()


def evaluation_forward(model: nn.Module, inputs: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        model(inputs)


def input_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """An evaluation forward and the backward pass behind it to the input: what the floor adds to the plain step."""
    model.eval()
    x = inputs.detach().requires_grad_()
    torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)


def interleaved(arms: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each arm in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for round_ in tqdm(range(rounds + 1), desc="rounds"):
        for name, work in arms.items():
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def build_arms(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    model = resnet(options.backbone, num_classes=10, size=options.size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    inputs = torch.randn(options.batch_size, 3, options.size, options.size, device=device)
    targets = torch.randint(10, (options.batch_size,), device=device)
    gradient = partial(GradientLRP(), model)
    step = partial(train_step, model, optimizer, inputs=inputs, targets=targets)
    arms = {
        "plain step": partial(step, NoAugmentation(), None),
        "evaluation forward": partial(evaluation_forward, model, inputs),
        "forward and input gradient": partial(input_gradient, model, inputs, targets),
        "random erasing, p = 1": partial(step, RandomErasing(1.0), None),
        "RelDrop-block, p = 1": partial(step, RelDropBlock(1.0), gradient),
        "RelDrop-block, p = 0.5": partial(step, RelDropBlock(0.5), gradient),
        "RelDrop-patch, p = 1": partial(step, RelDropPatch(1.0), gradient),
        "RelDrop-pixel, p = 1": partial(step, RelDropPixel(1.0), gradient),
        "attribution alone": partial(gradient, inputs, targets),
    }
    if options.zennit:
        arms["RelDrop-block, p = 1, zennit"] = partial(step, RelDropBlock(1.0), partial(ZennitLRP(), model))
    return arms


def report(seconds: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return a Markdown table and its figures; ratios are medians over rounds of ratios within a round."""
    plain = seconds["plain step"]
    rows = dict(seconds)
    # One forward pass in evaluation mode and the backward pass behind it are "forward and input gradient" together.
    gradient = seconds["forward and input gradient"]
    rows["floor of RelDrop, p = 1"] = [a + b for a, b in zip(plain, gradient, strict=True)]
    figures = {
        name: {
            "seconds": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, plain, strict=True)),
        }
        for name, values in rows.items()
    }
    lines = ["| arm | median s | ratio to the plain step |", "|---|---|---|"]
    lines += [f"| {name} | {row['seconds']:.3f} | {row['ratio']:.3f} |" for name, row in figures.items()]
    return "\n".join(lines), figures


def machine(device: torch.device) -> dict[str, str | int]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--zennit", action="store_true", help="also time the same attribution by zennit")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    device = torch.device(options.device)
    seconds = interleaved(build_arms(options, device), options.rounds, device)
    text, figures = report(seconds)
    facts = {**machine(device), **{key: getattr(options, key) for key in ("backbone", "size", "batch_size", "rounds")}}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": facts, "figures": figures, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()

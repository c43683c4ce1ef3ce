"""Which networks `attribution=gradient` covers, and whether relevance is conserved there, in float64.

    python scripts/lrp_coverage.py [timm | torchvision | NAME ...] [--output FILE.md]

NAME is a module of timm (convnext), a family of torchvision (densenet), or a network of either (convnext_tiny). Of each module
or family its smallest network stands for all. What starts at zero or at a constant is drawn at random first, so that nothing
is balanced by chance. Two checks, both without epsilon and by CP-LRP:

- the audit (`reldrop.attribution.check`): relevance of the input + what constants and given values absorb = logit;
- the map of an ordinary call, by its plan and with batch norms folded: its sum is the relevance of the audit.

The last line is `N of M`: how many conserve.
"""

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import timm
import torch
import torchvision
from timm.models import _registry
from torch import Tensor, nn

from reldrop.attribution import GradientLRP, check
from reldrop.attribution.rules import names
from reldrop.utils.errors import ReldropError
from reldrop.utils.text import format_columns

HEADER = ["networks", "smallest", "of", "conserves", "input", "constants", "given", "calls", "folded"]
SMALL = names("tiny nano pico femto atto small micro xs xxs _s 18 mini b0 lite 050 1_0 11 121")
LARGE = names("giant huge large xlarge base gigantic so400 _l 384 448 512 b7 b8")
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--output", type=Path, help="write the table into this Markdown file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows, good = [], 0
    for group, name, count, build in networks(set(arguments.names)):
        try:
            torch.manual_seed(0)
            fine, cells = verdict(*build())
        except (ReldropError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            fine, cells = False, [f"no: {' '.join(str(error).split())[:160]}", *[""] * 5]
        good += fine
        rows.append([group, name, str(count), *cells])
        print(*rows[-1], sep="\t", flush=True)
    if arguments.output:
        text = "\n".join(format_columns([HEADER, *rows]))
        arguments.output.write_text(f"```\n{text}\n\n{good} of {len(rows)}\n```\n", encoding="utf-8")
    print(f"{good} of {len(rows)}")


def networks(wanted: set[str]) -> Iterator[tuple[str, str, int, Callable[[], tuple[nn.Module, Tensor]]]]:
    """Yield (module or family, its smallest network, how many it has, a function that builds it with inputs)."""
    every = not wanted
    modules: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        modules[_registry._model_to_module[name]].append(name)
    for module, members in sorted(modules.items()):
        chosen = sorted(wanted.intersection(members))
        if every or "timm" in wanted or module in wanted:
            chosen.append(smallest(members))
        for name in chosen:
            yield module, name, len(members), lambda name=name: timm_network(name)
    families: dict[str, list[str]] = defaultdict(list)
    for name in torchvision.models.list_models(module=torchvision.models):
        if not name.startswith("raft"):
            families[torchvision.models.get_model_builder(name).__module__.split(".")[-1]].append(name)
    for family, members in families.items():
        if every or "torchvision" in wanted or family in wanted - modules.keys():
            name = min(members, key=torchvision_size)
            yield family, name, len(members), lambda name=name: torchvision_network(name)


def smallest(networks: list[str]) -> str:
    """The network whose name promises to be small; by parameters, if that is a large one."""

    def parameters(name: str) -> int:
        with torch.device("meta"):
            return sum(value.numel() for value in timm.create_model(name, num_classes=CLASSES).parameters())

    name = min(networks, key=lambda n: (sum(w in n for w in LARGE), -sum(w in n for w in SMALL), len(n)))
    return name if parameters(name) <= 100e6 else min(networks, key=parameters)


def timm_network(name: str) -> tuple[nn.Module, Tensor]:
    model = generic(timm.create_model(name, num_classes=CLASSES).double().eval())
    channels, *size = model.default_cfg["input_size"]
    for side in (96, 128, 224):  # the smallest images that it takes
        x = torch.randn(1, channels, side, side, dtype=torch.float64)
        try:
            with torch.no_grad():
                model(x)
            break
        except (RuntimeError, AssertionError, ValueError):
            x = torch.randn(1, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        return (model if model(x).ndim == 2 else nn.Sequential(model, Mean())), x


def torchvision_size(name: str) -> int:
    try:
        with torch.device("meta"):
            return sum(value.numel() for value in torchvision.models.get_model(name, weights=None).parameters())
    except NotImplementedError:
        return 0  # its initialization reads its weights


def torchvision_network(name: str) -> tuple[nn.Module, Tensor]:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)
    side = 299 if "inception" in name else 224
    return generic(model.double().eval()), torch.randn(1, 3, side, side, dtype=torch.float64)


class Mean(nn.Module):
    """Makes a classifier of an encoder: the mean over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1, -2).mean(1)


@torch.no_grad()
def generic(model: nn.Module) -> nn.Module:
    """Draw what starts at zero or at a constant, and the statistics of batch norms."""
    for value in model.parameters():
        if value.numel() and bool((value == value.flatten()[0]).all()):
            first = float(value.flatten()[0])
            value.copy_(torch.empty_like(value).uniform_(0.7, 1.3) if first == 1 else torch.randn_like(value) * 0.1)
            if not value.ndim:
                value.fill_(first + 0.1)
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.7, 1.3)
    return model


def verdict(model: nn.Module, x: Tensor) -> tuple[bool, list[str]]:
    """Return whether `model` is covered and conserves, and the cells of its row."""
    targets = torch.full((len(x),), 3)
    exact = GradientLRP(0.0, stabilizer=0.0, attention="cplrp")
    audit = check(model, x, targets)
    planned = float(exact(model, x, targets).sum()) / len(x)
    fine = abs(audit.imbalance) < 1e-6 and abs(planned - audit.relevance) < 1e-6 * (1 + abs(audit.relevance))
    calls = exact.plan(model).calls
    said = "yes" if fine else f"no: {audit.imbalance:.0e}, {planned - audit.relevance:.0e}"
    figures = f"{audit.relevance:.3g}", *(f"{value:.3g}" for value in audit.absorbed)
    return fine, [said, *figures, str(len(calls)), str(sum(call.folded for call in calls))]


if __name__ == "__main__":
    main()

"""The guidance suite: networks for which it is known where a block must go."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import Attribution, CenterPrior, GradientLRP, RandomRelevance
from reldrop.evaluation.guidance import Guidance, report
from reldrop.plotting.guidance import guidance_figure
from reldrop.utils.errors import ReldropError
from tests.helpers.point_networks import clouds, small

SIZE = 20


class Corner(nn.Module):
    """A network that looks at one square of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.scale * x[:, :, 2:7, 12:17].mean((1, 2, 3))
        return torch.stack([seen, -seen], 1)


class Where(Attribution):
    """Relevance of the square."""

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: object = None) -> Tensor:
        maps = inputs.new_zeros(len(inputs), SIZE, SIZE)
        maps[:, 2:7, 12:17] = 1
        maps[:, 2, 12] = 1.5  # the largest is in a corner of it
        return maps


def batches(count: int = 60) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    for items in torch.arange(count).split(25):
        yield (
            1 + 0.1 * torch.randn(len(items), 3, SIZE, SIZE, generator=rng),
            torch.zeros(len(items), dtype=torch.long),
            items,
        )


@pytest.fixture(scope="module")
def measured() -> tuple[dict, dict]:
    maps = {"where": Where(), "center": CenterPrior(), "random": RandomRelevance()}
    return Guidance(maps, areas=(0.0625, 0.25), cost_rounds=1).measure(Corner().eval(), batches())


def test_the_right_place_hides_all_and_others_little(measured: tuple[dict, dict]) -> None:
    guidances = measured[0]["guidance"]
    assert measured[0]["samples"] == 60
    assert measured[0]["clean"]["top1"] == 1
    assert guidances["where/block"]["relevance_hidden"]["0.0625"] == pytest.approx(1)
    assert guidances["where/block"]["drop"]["0.0625"] == pytest.approx(0.5, abs=1e-3)
    assert guidances["where/pixel"]["relevance_hidden"]["0.0625"] < 0.6  # around a corner of the square
    assert guidances["center"]["relevance_hidden"]["0.0625"] == 0
    assert guidances["center"]["drop"]["0.0625"] == pytest.approx(0, abs=1e-6)
    assert 0 < guidances["random"]["drop"]["0.0625"] < 0.2


def test_blocks_inside_hide_the_same_area(measured: tuple[dict, dict]) -> None:
    guidances = measured[0]["guidance"]
    for name in ("where/block", "where/pixel", "random", "center", "random/block"):
        assert guidances[name]["hidden"]["0.0625"] == pytest.approx(25 / 400)
        assert guidances[name]["hidden"]["0.25"] == pytest.approx(100 / 400)
    assert guidances["where/pixel, clipped"]["hidden"]["0.25"] < 0.25


def test_figures_are_means_over_samples(measured: tuple[dict, dict]) -> None:
    figures, samples = measured
    drop = samples["where/block/drop"]
    assert drop.shape == (60, 2)
    own = figures["guidance"]["where/block"]
    assert own["drop"]["0.25"] == pytest.approx(drop[:, 1].mean().item())
    assert own["drop"]["mean"] == pytest.approx(drop.mean().item())
    assert own["drop_interval"]["0.25"] == pytest.approx(1.96 * drop[:, 1].std().item() / 60**0.5)
    assert own["cost"] > 0
    assert figures["guidance"]["random"]["cost"] == 0


def test_the_table_and_the_figure(measured: tuple[dict, dict]) -> None:
    lines = report(measured[0]).splitlines()
    assert lines[0].startswith("60 samples, 100.0% right")
    assert lines[4].startswith("| where | block |")  # the largest drop first
    assert len(lines) == 4 + 3 * 3 + 2
    assert len(guidance_figure({"corner": measured[0], "again": measured[0]}).axes) == 2


def test_the_network_stays_as_it_is() -> None:
    model = Corner().eval()
    state = torch.get_rng_state()
    Guidance({"where": Where()}, areas=(0.1,), cost_rounds=2).measure(model, batches())
    assert model.scale == 8
    assert model.scale.grad is None
    assert not model.training
    assert torch.equal(state, torch.get_rng_state())


def test_balls_of_points(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = small().float().eval(), clouds(6, dtype=torch.float32)
    maps = {"full": GradientLRP(), "auto": GradientLRP(until="auto")}
    with caplog.at_level(logging.INFO, "reldrop"):
        figures, _ = Guidance(maps, areas=(0.25,), cost_rounds=0).measure(
            model, [(inputs, torch.arange(6) % 2, torch.arange(6))]
        )
    assert "left out auto: attribution.until=auto is for images" in caplog.text
    assert set(figures["guidance"]) == {"full/pixel", "full/block", "random", "center"}
    assert all(own["hidden"]["0.25"] == 0.25 for own in figures["guidance"].values())
    hidden = {name: own["relevance_hidden"]["0.25"] for name, own in figures["guidance"].items()}
    assert hidden["full/block"] > hidden["random"]
    assert figures["guidance"]["full/block"]["cost"] is None


def test_no_map_for_a_network() -> None:
    inputs = clouds(2, dtype=torch.float32)
    suite = Guidance({"auto": GradientLRP(until="auto")})
    with pytest.raises(ReldropError, match=r"none of suite.maps is for this network"):
        suite.measure(small().float().eval(), [(inputs, torch.arange(2), torch.arange(2))])

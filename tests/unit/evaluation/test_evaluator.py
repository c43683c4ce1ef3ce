"""Sanity that can fail."""

import pytest
import torch
from torch import Tensor, nn

from reldrop.attribution import InputGradient, RandomRelevance
from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.points.dataset import PointData, PointSplit
from reldrop.evaluation.robustness import Robustness
from reldrop.utils.errors import ReldropError

SIDE, PATCH = 8, 2


class Whole:
    """Regions that are the patch in the upper left corner, whatever the file."""

    def masks(self, paths: list[str]) -> Tensor:
        masks = torch.zeros(len(paths), SIDE, SIDE, dtype=torch.bool)
        masks[:, :PATCH, :PATCH] = True
        return masks


class Corner(nn.Module):
    """Looks at that patch and at nothing else: class 1 where it is brighter than the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        score = self.scale * inputs[:, :, :PATCH, :PATCH].sum((1, 2, 3)) - 1e-3  # a tie goes to class 0
        return torch.stack([-score, score], 1)


def corner_images(count: int = 40) -> ImageData:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 1, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    images[:, :, :PATCH, :PATCH] = (labels * 200).to(torch.uint8)[:, None, None, None] + 20
    split = ImageSplit(images, labels, paths=[f"{number}.png" for number in range(count)])
    return ImageData("corner", ("dark", "bright"), SIDE, (0.5,), (0.25,), "made", split, split)


def test_a_network_that_looks_at_one_patch_only() -> None:
    data, model = corner_images(), Corner().eval()
    suite = Robustness(steps=SIDE * SIDE // PATCH**2, random_draws=2, blocks=[PATCH**2 / SIDE**2], block_draws=2)
    figures, samples = suite.measure(model, data, InputGradient(), Whole(), batch_size=16)
    most, least = (samples[f"curves/{order}/correct"].mean(0) for order in ("most", "least"))
    assert most.tolist() == [1.0] + [0.5] * 16  # without the patch, class 0 is chosen always
    assert least.tolist() == [1.0] * 16 + [0.5]
    assert figures["curves"]["accuracy"]["most"] == pytest.approx((0.75 + 15 * 0.5) / 16)
    assert figures["curves"]["accuracy"]["least_minus_most"] == pytest.approx(15 * 0.5 / 16)
    assert figures["regions"]["mass_accuracy"] == figures["regions"]["rank_accuracy"] == 1
    assert figures["regions"]["pointing_game"] == 1
    assert figures["regions"]["relevance_per_area"] == SIDE**2 / PATCH**2
    assert figures["regions"]["samples"] == 40
    assert figures["spread"]["effective_features"] == pytest.approx(PATCH**2)
    assert figures["blocks"]["relevant"]["mean"] == 0.5
    assert figures["blocks"]["center"]["mean"] == 1.0
    assert figures["clean"]["top1"] == figures["clean"]["train_top1"] == figures["clean"]["class_mean"] == 1


def test_orders_coincide_for_random_relevance() -> None:
    data, model = corner_images(400), Corner().eval()
    suite = Robustness(steps=16, random_draws=1, blocks=[])
    curves = suite.measure(model, data, RandomRelevance(), batch_size=100)[0]["curves"]["probability"]
    error = 0.3 / 400**0.5  # of a mean of 400 areas, whose deviation is below 0.3
    assert abs(curves["most"] - curves["least"]) < 4 * 2**0.5 * error
    assert abs(curves["most"] - curves["random"]) < 4 * 2**0.5 * error
    looked = suite.measure(model, data, InputGradient(), batch_size=100)[0]["curves"]["probability"]
    assert looked["least"] - looked["most"] > 0.3  # where the same bound would not hold


@pytest.mark.parametrize("fill", ["mean", "zero", "blur", "noise"])
def test_no_sample_depends_on_its_batch(fill: str) -> None:
    data, model = corner_images(23), Corner().eval()
    suite = Robustness(steps=5, fill=fill, random_draws=2, blocks=[0.1, 0.3], block_draws=2, seed=3)
    _, whole = suite.measure(model, data, InputGradient(), Whole(), batch_size=64)
    _, single = suite.measure(model, data, InputGradient(), Whole(), batch_size=1)
    _, some = suite.measure(model, data, InputGradient(), Whole(), limit=7, batch_size=3)
    chosen = torch.cat([items for _, _, items, *_ in data.eval_batches("test", batch_size=3, limit=7)])
    assert whole.keys() == single.keys() == some.keys()
    ranks = [samples.pop("clean/train_rank") for samples in (whole, single, some)]
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], ranks[2])
    for key, values in whole.items():
        torch.testing.assert_close(single[key], values, rtol=1e-5, atol=1e-6, equal_nan=True)
        torch.testing.assert_close(some[key], values[chosen], rtol=1e-5, atol=1e-6, equal_nan=True)


class Farthest(nn.Module):
    """Class 1 where a point lies beyond 2 along x; any number of points."""

    def forward(self, clouds: Tensor) -> Tensor:
        score = clouds[..., 0].amax(1) - 2
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("fill", ["first", "zero", "remove"])
def test_clouds(fill: str) -> None:
    draws = torch.Generator().manual_seed(0)
    clouds = torch.rand(12, 20, 3, generator=draws)
    labels = torch.arange(12) % 2
    clouds[labels == 1, 7, 0] = 3
    split = PointSplit(clouds, labels)
    data = PointData("beyond", ("near", "far"), "made", split, split)
    suite = Robustness(steps=20, fill=fill, random_draws=1, blocks=[0.05, 0.5], block_draws=3)
    _, samples = suite.measure(Farthest(), data, InputGradient(), batch_size=5)
    most = samples["curves/most/correct"].mean(0)
    assert most[0] == 1
    assert (most[1:] == 0.5).all()  # the one point is gone
    assert (samples["curves/least/correct"].mean(0)[:19] == 1).all()
    assert samples["blocks/relevant/correct"].mean(0).tolist() == [0.5, 0.5]
    assert samples["blocks/random/correct"][:, 0].mean() > 0.75
    _, alone = suite.measure(Farthest(), data, InputGradient(), batch_size=1)
    assert all(torch.equal(alone[key], values) for key, values in samples.items() if "correct" in key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"random_draws": 1.5}, "random_draws=1.5 must be a whole number"),
        ({"blocks": [0.5, 1.0]}, r"blocks=\[0.5, 1.0\] must be below 1 at index 1"),
        ({"train_samples": -1}, "train_samples=-1 must be at least 1 or null"),
    ],
)
def test_settings_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ReldropError, match=message):
        Robustness(**options)

"""Occlusion curves and blocks against hand-worked arrays, closed forms and a plain loop over samples."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reldrop.evaluation import occluders
from reldrop.metrics import occlusion
from reldrop.utils.errors import ReldropError
from reldrop.utils.seeding import uniform_of_items

MASK64 = (1 << 64) - 1


def splitmix64(counter: int, seed: int) -> float:
    """As published, with Python's whole numbers."""
    bits = (seed + counter * 0x9E3779B97F4A7C15) & MASK64
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK64
    return ((bits ^ (bits >> 31)) >> 11) / 2**53


def test_numbers_of_items() -> None:
    items = torch.tensor([0, 7, 123456])
    numbers = uniform_of_items(items, 3, seed=2**62 + 5)
    expected = [[splitmix64(item * 3 + place, 2**62 + 5) for place in (1, 2, 3)] for item in items.tolist()]
    assert numbers.tolist() == expected
    many = uniform_of_items(torch.arange(2000), 50, seed=1)
    assert many.min() >= 0
    assert many.max() < 1
    assert abs(many.mean().item() - 0.5) < 5 * (1 / 12 / many.numel()) ** 0.5
    assert abs(torch.corrcoef(many.T)[0, 1].item()) < 0.1
    assert torch.equal(many[5:7], uniform_of_items(torch.tensor([5, 6]), 50, seed=1))


# ---- which parts ------------------------------------------------------------------------------------------------------


def test_ranks_and_steps() -> None:
    relevance = torch.tensor([[[0.1, 0.9], [0.5, 0.5]], [[-1.0, -3.0], [-2.0, 0.0]]])
    assert occlusion.feature_ranks(relevance).tolist() == [[3, 0, 1, 2], [1, 3, 2, 0]]  # of equal ones the first
    assert occlusion.step_counts(10, 4) == [2, 5, 8, 10]
    assert occlusion.step_counts(4, 4) == [1, 2, 3, 4]
    with pytest.raises(ReldropError, match=r"steps=5 .* 4 pixels"):
        occlusion.step_counts(4, 5)
    ranks = occlusion.feature_ranks(relevance)
    most = [mask.tolist() for mask in occlusion.most_first(ranks[:1], [1, 3], (1, 2, 2))]
    assert most == [[[[False, True], [False, False]]], [[[False, True], [True, True]]]]
    least = [mask.tolist() for mask in occlusion.least_first(ranks[:1], [1, 3], (1, 2, 2))]
    assert least == [[[[True, False], [False, False]]], [[[True, False], [True, True]]]]


def test_random_orders_depend_on_the_sample_alone() -> None:
    orders = occlusion.random_ranks(torch.tensor([3, 8, 3]), 20, draw=0)
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders, occlusion.random_ranks(torch.tensor([3, 8, 3]), 20, draw=1))
    assert not torch.equal(orders, occlusion.random_ranks(torch.tensor([3, 8, 3]), 20, draw=0, seed=1))
    assert orders.sort(1).values.tolist() == [list(range(20))] * 3


def test_blocks() -> None:
    assert occluders.block_size(0.25, (8, 12)) == (4, 6)
    assert occluders.block_size(1e-9, (8, 8)) == (1, 1)
    relevance = torch.zeros(2, 5, 6)
    relevance[0, 3, 4] = 1
    relevance[1, 0, 0], relevance[1, 4, 5], relevance[1, 4, 4] = 3, 2, 2  # two pixels outweigh the largest one
    masks = occluders.relevant_block(relevance, (2, 2))
    assert masks.sum((1, 2)).tolist() == [4, 4]
    assert masks[0, 3, 4]
    assert masks[1, 3:, 4:].all()
    center = occluders.central_block((1, 2), (1, 5, 6), torch.device("cpu"))
    assert center[0].nonzero().tolist() == [[2, 2], [2, 3]]
    shape = (500, 5, 6)
    anywhere = occluders.random_block(torch.arange(500), (2, 3), shape, draw=0)
    assert (anywhere.sum((1, 2)) == 6).all()
    tops = anywhere.any(2).int().argmax(1).bincount().tolist()
    assert len(tops) == 4
    assert min(tops) > 80  # 125 expected
    assert torch.equal(anywhere[7:8], occluders.random_block(torch.tensor([7]), (2, 3), (1, 5, 6), draw=0))


def test_relevant_block_against_a_loop() -> None:
    relevance = torch.randn(6, 7, 9, generator=torch.Generator().manual_seed(0))
    masks = occluders.relevant_block(relevance, (3, 4))
    for one, mask in zip(relevance.double(), masks, strict=True):
        sums = {(top, left): one[top : top + 3, left : left + 4].sum().item() for top in range(5) for left in range(6)}
        assert one[mask].sum().item() == pytest.approx(max(sums.values()))


def test_balls() -> None:
    xyz = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [0, 2, 0]]])
    assert occlusion.nearness_ranks(xyz, xyz[:, 0]).tolist() == [[0, 1, 3, 2]]
    assert occlusion.nearness_ranks(xyz, xyz[:, 2]).tolist() == [[2, 1, 0, 3]]


# ---- hiding them ------------------------------------------------------------------------------------------------------


def test_fills_of_images() -> None:
    normalization = ((0.5, 0.25), (0.25, 0.5))
    inputs = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    items = torch.tensor([4, 9, 4])
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 3:6] = True

    def hidden(fill: str) -> Tensor:
        occluded = occluders.Occluder(fill, "images", normalization).start(inputs, items)(mask)
        outside = ~mask[:, None].expand_as(inputs)
        assert torch.equal(occluded[outside], inputs[outside])
        return occluded.movedim(1, -1)[mask]

    assert (hidden("mean") == 0).all()
    assert torch.equal(hidden("zero")[0], torch.tensor([-2.0, -0.5]))
    noise = hidden("noise").view(3, -1)
    assert torch.equal(noise[0], noise[2])  # of the same sample
    assert not torch.equal(noise[0], noise[1])
    assert noise.std().item() == pytest.approx(1, abs=0.3)
    constant = torch.full_like(inputs, 0.7)
    blurred = occluders.Occluder("blur", "images", normalization).start(constant, items)(mask)
    torch.testing.assert_close(blurred, constant)
    assert hidden("blur").std() < inputs.std()
    with pytest.raises(ReldropError, match="fill=first is not for images"):
        occluders.Occluder("first", "images", normalization)


def test_fills_of_clouds() -> None:
    clouds = torch.arange(24.0).view(2, 4, 3)
    items = torch.tensor([0, 1])
    mask = torch.tensor([[True, False, True, False], [False, False, True, True]])

    def hidden(fill: str, mask: Tensor = mask) -> Tensor:
        return occluders.Occluder(fill, "points").start(clouds, items)(mask)

    assert hidden("zero")[1].tolist() == [*clouds[1, :2].tolist(), [0, 0, 0], [0, 0, 0]]
    assert hidden("first")[1].tolist() == [*clouds[1, :2].tolist(), clouds[1, 0].tolist(), clouds[1, 0].tolist()]
    assert torch.equal(hidden("remove"), torch.stack([clouds[0, [1, 3]], clouds[1, [0, 1]]]))
    everything = hidden("remove", torch.ones_like(mask))
    assert torch.equal(everything, clouds[:, :1])  # a network needs a point
    with pytest.raises(ReldropError, match="fill=mean is not for points"):
        occluders.Occluder("mean", "points")


# ---- what is made of it -----------------------------------------------------------------------------------------------


def test_areas() -> None:
    assert occlusion.occlusion_auc(torch.tensor([1.0, 1.0, 1.0])).item() == 1
    assert occlusion.occlusion_auc(torch.tensor([1.0, 0.5, 0.0])).item() == 0.5
    assert occlusion.occlusion_auc(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).tolist() == pytest.approx([1 / 6])


class Linear(nn.Module):
    """A network whose logits are easily recomputed."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1)))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", inputs, self.weight)


def plain_curve(weight: np.ndarray, image: np.ndarray, relevance: np.ndarray, target: int, steps: int) -> list[tuple]:
    """Flip pixels of one image, the most relevant first, one step after the other."""
    image = image.copy()
    height, width = relevance.shape
    pixels = sorted(range(height * width), key=lambda pixel: -relevance[pixel // width, pixel % width])
    curve = []
    for step in range(steps + 1):
        for pixel in pixels[: round(len(pixels) * step / steps)]:
            image[:, pixel // width, pixel % width] = 0
        logits = (weight * image).sum((1, 2, 3))
        exponentials = np.exp(logits - logits.max())
        curve.append((int(logits.argmax()) == target, exponentials[target] / exponentials.sum()))
    return curve


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_curves_against_a_plain_loop(chunk: int) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, 3, 6, 6, generator=draws, dtype=torch.float64)
    relevance = torch.randn(5, 6, 6, generator=draws, dtype=torch.float64)
    targets, items = torch.tensor([0, 1, 2, 3, 0]), torch.arange(5)
    model = Linear(6).double()
    occluder = occluders.Occluder("mean", "images", ((0.5,) * 3, (0.5,) * 3))
    ranks, counts = occlusion.feature_ranks(relevance), occlusion.step_counts(36, 8)
    masks = [torch.zeros_like(relevance, dtype=torch.bool), *occlusion.most_first(ranks, counts, relevance.shape)]
    with torch.no_grad():
        hide, at_once = occluder.start(inputs, items), occluder.masks_per_batch(len(inputs), chunk)
        correct, probability = occluders.predict_masked(model, hide, targets, masks, at_once)
    for sample in range(5):
        plain = plain_curve(
            model.weight.detach().numpy(), inputs[sample].numpy(), relevance[sample].numpy(), int(targets[sample]), 8
        )
        assert correct[sample].tolist() == [hit for hit, _ in plain]
        assert probability[sample].tolist() == pytest.approx([share for _, share in plain], abs=1e-12)


def test_clouds_shrink_from_mask_to_mask() -> None:
    clouds = torch.randn(3, 10, 3, generator=torch.Generator().manual_seed(0))
    sizes = []

    def predict(inputs: Tensor) -> Tensor:
        sizes.append(tuple(inputs.shape[:2]))
        return inputs.sum(1)

    ranks = occlusion.feature_ranks(clouds[..., 0])
    masks = occlusion.most_first(ranks, [5, 9, 10], (3, 10))
    occluder = occluders.Occluder("remove", "points")
    targets = torch.tensor([0, 1, 2])
    hide = occluder.start(clouds, torch.arange(3))
    correct, _ = occluders.predict_masked(
        predict, hide, targets, masks, occluder.masks_per_batch(len(clouds), limit=100)
    )
    assert sizes == [(3, 5), (3, 1), (3, 1)]
    assert correct.shape == (3, 3)
    kept = clouds[0, ranks[0] >= 5]
    assert correct[0, 0].item() == (kept.sum(0).argmax() == 0).item()

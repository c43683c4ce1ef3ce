"""What is drawn: pictures, lines, bars and dots, counted."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import Tensor, nn

from reldrop.attribution import InputGradient
from reldrop.augmentation import RandomErasing, RandomPointDropout, RelDropBlock, RelDropPoint
from reldrop.data.images.dataset import ImageData, ImageSplit
from reldrop.data.points.dataset import PointData, PointSplit
from reldrop.plotting.curves import dot_figure, histogram_figure, line_figure
from reldrop.plotting.examples import occlusion_figure
from reldrop.plotting.layout import WRONG
from reldrop.plotting.point_clouds import ORANGE, project


class Sum(nn.Module):
    """A network of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        score = self.scale * inputs.square().flatten(1).sum(1)
        return torch.stack([score, -score], 1)


class LeftHalf:
    """Regions of 8 x 8 pixels."""

    def masks(self, paths: list[str]) -> Tensor:
        masks = torch.zeros(len(paths), 8, 8, dtype=torch.bool)
        masks[..., :4] = True
        return masks


@pytest.fixture
def images() -> ImageData:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (6, 3, 8, 8), generator=draws, dtype=torch.uint8)
    split = ImageSplit(pixels, torch.arange(6) % 2, paths=[f"{number}.png" for number in range(6)])
    return ImageData("made", ("even", "odd"), 8, (0.5,) * 3, (0.25,) * 3, "here", split, split)


def test_images_their_relevance_and_what_is_occluded(images: ImageData) -> None:
    block = RelDropBlock(probability=0.0)
    shown = {"Random_Erasing": (RandomErasing(probability=0.0), "relevance"), "RelDrop": (block, "relevance")}
    networks = {"relevance, epoch 1": Sum(), "relevance": Sum()}
    figure = occlusion_figure(networks, images, InputGradient(), shown, 4, LeftHalf())
    *pictures, bar = figure.axes
    assert "largest size" in bar.get_xlabel().replace("\n", " ")  # what the full colors mean
    rows = np.array(pictures).reshape(5, 4)
    assert rows[2, 0].get_xlabel() == "even (100 %)"  # the prediction, which is right for half of the images
    assert {axis.xaxis.label.get_color() for axis in rows[2]} == {"black", WRONG}
    assert [axis.get_ylabel() for axis in rows[:, 0]] == [
        "input",
        "relevance,\nepoch 1",
        "relevance",
        "Random\nErasing",
        "RelDrop",
    ]
    assert {axis.get_title() for axis in rows[0]} <= {"even", "odd"}
    assert all(len(axis.images) == 1 for axis in rows.flat)
    assert [[len(axis.collections) for axis in row] for row in rows] == [[1] * 4] * 2 + [[0] * 4] * 3  # the outlines
    inputs, relevance, *_, occluded = ([axis.images[0].get_array() for axis in row] for row in rows)
    assert inputs[0].shape == (8, 8, 3)
    assert relevance[0].shape == (8, 8)
    low, high = rows[1, 0].images[0].get_clim()
    assert -low == high == abs(relevance[0]).max()
    for before, after in zip(inputs, occluded, strict=True):  # each, though the augmentation's probability is 0
        changed = (before != after).any(-1)
        assert 0 < changed.mean() < 1
        np.testing.assert_allclose(after[changed], 0.5, atol=1e-6)
    assert block.probability == 0


def test_clouds_their_relevance_and_what_is_dropped() -> None:
    clouds = torch.rand(5, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    split = PointSplit(clouds, torch.arange(5) % 2)
    data = PointData("made", ("even", "odd"), "here", split, split)
    shown = {"Random": (RandomPointDropout(), "relevance"), "RelDrop": (RelDropPoint(), "relevance")}
    figure = occlusion_figure({"relevance": Sum()}, data, InputGradient(), shown, 3)
    rows = np.array(figure.axes[:-1]).reshape(3, 3)
    assert all(len(axis.collections[0].get_offsets()) == 50 for axis in rows.flat)
    assert "Orange: points that are dropped" in figure.legends[0].get_title().get_text().replace("\n", " ")
    colors = [to_hex(color) for color in rows[2, 0].collections[0].get_facecolors()]
    dropped = colors.count(ORANGE)
    assert 0 < dropped < 50
    assert colors[-dropped:] == [ORANGE] * dropped  # drawn last, in front


def test_the_view_of_clouds() -> None:
    axes = np.eye(3)[None]
    right, upward, away = project(axes, up=1, azimuth=0, elevation=0)[0]
    assert right == pytest.approx([1, 0, 0])
    assert upward == pytest.approx([0, 1, 0])
    assert away == pytest.approx([0, 0, 1])
    assert np.linalg.norm(project(axes, up=1)[0], axis=0) == pytest.approx([1, 1, 1])  # a rotation


def test_lines_are_means_and_bands_deviations() -> None:
    curves = {"none": np.array([[0.5, 0.1], [0.7, 0.3]]), "one": np.array([[0.4, 0.2]])}
    figure = line_figure({"a": curves, "b": curves}, [0, 0.5], "hidden (%)", "accuracy (%)")
    for axis in figure.axes:
        first, second = axis.lines
        assert first.get_xdata().tolist() == [0, 50]
        assert first.get_ydata() == pytest.approx([60, 20])
        assert second.get_ydata() == pytest.approx([40, 20])
        assert first.get_color() != second.get_color()
        assert first.get_linestyle() != second.get_linestyle()  # for prints without color
        (band,) = axis.collections  # of the label with several runs
        assert band.get_datalim(axis.transData).y1 == pytest.approx(60 + 100 * np.std([0.5, 0.7], ddof=1))
    assert [text.get_text() for text in figure.legends[0].texts] == ["none", "one"]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]


def test_histograms() -> None:
    shares = {"none": np.array([0.01, 0.02, 0.03, 0.97, np.nan])}
    figure = histogram_figure({"mass": shares}, chance=0.25)
    (axis,) = figure.axes
    steps, mean, chance = axis.lines
    assert steps.get_ydata()[:3].tolist() == [0, 75, 0]  # behind the left edge
    assert steps.get_ydata()[-2:].tolist() == [25, 0]
    assert mean.get_xdata()[0] == pytest.approx(100 * np.mean([0.01, 0.02, 0.03, 0.97]))
    assert chance.get_xdata()[0] == 25
    assert axis.get_xlabel() == "mass (%)"


def test_dots() -> None:
    figure = dot_figure({"accuracy (%)": {"none": [1.0, 3.0], "other": []}, "gap": {"none": [1.0], "other": [2.0]}})
    dots, bar, empty = figure.axes[0].lines
    assert dots.get_xdata().tolist() == [1, 3]
    assert bar.get_xdata().tolist() == [2, 2]
    assert len(empty.get_xdata()) == 0
    assert len(figure.axes[1].lines) == 4
    assert figure.axes[1].lines[2].get_color() != dots.get_color()


def test_nothing_is_cut_off() -> None:
    """Panels share an axis, and the last may reach the highest."""
    low, high = {"none": np.array([[0.2, 0.1]])}, {"none": np.array([[0.2, 0.9]])}
    figure = line_figure({"low": low, "high": high}, [0, 1], "hidden (%)", "accuracy (%)")
    assert figure.axes[0].get_ylim()[1] > 90
    figure = histogram_figure({"low": {"none": np.linspace(0, 1, 20)}, "high": {"none": np.full(20, 0.5)}}, 0.5)
    assert figure.axes[0].get_ylim()[1] > 100

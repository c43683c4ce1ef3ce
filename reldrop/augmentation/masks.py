"""Which features to occlude: boolean masks for a whole batch at once.

The few numbers per image (sizes, positions) are drawn on the CPU and copied over without waiting; what depends on
relevance stays on its device. Nothing here loops over images or makes the host wait for the device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reldrop.utils.errors import ReldropError

MAX_DRAWS = 100  # of a rectangle, until one fits into the image (Zhong et al. 2020)


def draw_sizes(
    shape: tuple[int, ...],
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Draw heights and widths of rectangles by the law of Random Erasing (Zhong et al. 2020, Algorithm 1).

    The area is uniform in `scale` (shares of the image), the aspect ratio h / w is exp(U(log ratio, -log ratio)); the
    first of 100 draws that is smaller than the image in both directions counts.

    Args:
        shape: of the result, e.g. (images, rectangles).
        size: (H, W) of the image in pixels.
        scale: smallest and largest area, in (0, 1].
        ratio: smallest aspect ratio, in (0, 1].

    Returns:
        heights and widths, int64, at least 1; both 0 where none of the draws fitted.
    """
    height, width = size
    share = torch.empty(*shape, MAX_DRAWS).uniform_(*scale, generator=generator)
    aspect = torch.empty(*shape, MAX_DRAWS).uniform_(math.log(ratio), -math.log(ratio), generator=generator).exp()
    pixels = share * height * width
    heights = (pixels * aspect).sqrt().round().long().clamp(min=1)
    widths = (pixels / aspect).sqrt().round().long().clamp(min=1)
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(-1, keepdim=True)
    found = fits.any(-1)
    return heights.gather(-1, first)[..., 0] * found, widths.gather(-1, first)[..., 0] * found


def rectangles(top: Tensor, left: Tensor, heights: Tensor, widths: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the union of rectangles, clipped at the border: each argument (n, r), the mask (n, H, W)."""
    rows = torch.arange(size[0], device=top.device)
    columns = torch.arange(size[1], device=top.device)
    in_rows = (rows >= top[..., None]) & (rows < (top + heights)[..., None])
    in_columns = (columns >= left[..., None]) & (columns < (left + widths)[..., None])
    return (in_rows[..., :, None] & in_columns[..., None, :]).any(1)


def place(
    relevance: Tensor,
    k: int,
    chosen: Tensor,
    heights: Tensor,
    widths: Tensor,
    place_by: str = "pixel",
    border: str = "clip",
) -> Tensor:
    """Return the masks (n, H, W) of rectangles at some of the k best places of maps (n, H, W).

    Args:
        relevance: the maps.
        k: number of places.
        chosen: which of them, 0 for the best, (n, r).
        heights, widths: of the rectangles in pixels, (n, r).
        place_by: "pixel": a place is the center of a rectangle, the more relevant the better; "block": the better, the more
            positive relevance the rectangle hides there, see `best_places`.
        border: "clip": what of a rectangle is outside the image is lost; "inside": it is moved until all of it is inside.

    Raises:
        ReldropError: the maps have fewer than k pixels.
    """
    if k > relevance[0].numel():
        raise ReldropError(f"k={k} must be at most the {relevance[0].numel()} pixels of an image")
    size, inside = (relevance.shape[1], relevance.shape[2]), border == "inside"
    if place_by == "block":
        top, left = (places.gather(1, chosen) for places in best_places(relevance, k, heights, widths, inside))
    else:
        centers = relevance.flatten(1).topk(k).indices.gather(1, chosen)
        top = _start(centers // size[1], heights, size[0], inside)
        left = _start(centers % size[1], widths, size[1], inside)
    return rectangles(top, left, heights, widths, size)


def best_places(
    relevance: Tensor, k: int, heights: Tensor, widths: Tensor, inside: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the top rows and left columns, each (n, k), of the places where rectangles hide most positive relevance.

    Each pixel of a map (n, H, W) is the center of one place. Of equal places, the first in reading order is the better. A
    place is at least half a rectangle away from each better one, in one direction or both; where none is left, the best of
    all is taken again. For maps without any positive value see `nonnegative`.

    Args:
        relevance: the maps.
        k: number of places, of rectangles of one size.
        heights, widths: of the rectangles in pixels, (n, 1) of the same at all places, or (n, r), whose j-th is that of the
            j-th place; there are then r places, whatever k is.
        inside: whether a rectangle is moved until all of it is inside; otherwise it is clipped at the border.
    """
    maps = nonnegative(relevance)
    if heights.shape[1] == 1:
        heights, widths = heights.expand(-1, k), widths.expand(-1, k)
    rows, columns = (torch.arange(side, device=maps.device) for side in maps.shape[1:])
    found: list[tuple[Tensor, Tensor]] = []
    for height, width in zip(heights.split(1, 1), widths.split(1, 1), strict=True):
        top = _start(rows, height, len(rows), inside)
        left = _start(columns, width, len(columns), inside)
        sums = window_sums(window_sums(maps, 1, top, height), 2, left, width)
        near = torch.zeros_like(sums, dtype=torch.bool)
        for row, column in found:
            near |= (2 * (top - row).abs() < height)[:, :, None] & (2 * (left - column).abs() < width)[:, None]
        near &= ~near.all((1, 2), keepdim=True)
        best = sums.masked_fill(near, -1).flatten(1).argmax(1, keepdim=True)
        found.append((top.gather(1, best // len(columns)), left.gather(1, best % len(columns))))
    tops, lefts = zip(*found, strict=True)
    return torch.cat(tops, 1), torch.cat(lefts, 1)


def nonnegative(relevance: Tensor) -> Tensor:
    """Return the positive part of maps (n, ...), float64; of one without any positive value, the distance from its smallest."""
    maps, axes = relevance.double(), tuple(range(1, relevance.ndim))
    return torch.where(maps.amax(axes, True) > 0, maps.clamp(min=0), maps - maps.amin(axes, True))


def window_sums(maps: Tensor, dim: int, start: Tensor, length: Tensor) -> Tensor:
    """Return the sums of maps (n, H, W) over windows along one dimension, by differences of its cumulative sums.

    Both dimensions one after the other give the sums over rectangles, as an integral image does (Crow 1984).

    Args:
        maps: float64, in which sums of whole numbers are exact.
        dim: 1 for windows of rows, 2 for windows of columns.
        start: first row or column of each of p windows, (n, p). What is outside counts as 0.
        length: of the windows, (n, 1) or (n, p).

    Returns:
        (n, p, W) or (n, H, p).
    """
    sums = F.pad(maps.cumsum(dim), (0, 0, 1, 0) if dim == 1 else (1, 0))
    ends = (each.clamp(0, maps.shape[dim]).unsqueeze(3 - dim) for each in (start + length, start))
    upper, lower = (torch.take_along_dim(sums, end, dim) for end in ends)
    return upper - lower


def _start(center: Tensor, length: Tensor, side: int, inside: bool) -> Tensor:
    """Return where a window of some length around `center` starts, of `side` pixels."""
    start = center - length // 2
    return torch.minimum(start.clamp(min=0), side - length) if inside else start


def threshold(relevance: Tensor, alpha: float, beta: float, noise: Tensor) -> Tensor:
    """Occlude where alpha * U + (1 - alpha) * R >= 1 - beta, with R scaled to [0, 1] for each sample.

    Args:
        relevance: (n, ...), any scale; a constant map counts as 0 everywhere.
        noise: U, uniform in [0, 1), of the same shape.
    """
    flat = relevance.flatten(1)
    low, high = flat.aminmax(dim=1, keepdim=True)
    scaled = (flat - low) / (high - low).clamp(min=torch.finfo(flat.dtype).tiny)
    return (alpha * noise.flatten(1) + (1 - alpha) * scaled >= 1 - beta).view_as(relevance)

"""Which features to occlude: boolean masks for a whole batch at once.

The few numbers per image (sizes, positions) are drawn on the CPU and copied over without waiting; what depends on
relevance stays on its device. Nothing here loops over images or makes the host wait for the device.
"""

import math

import torch
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


def centered(relevance: Tensor, k: int, chosen: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """Return the masks (n, H, W) of rectangles around some of the k most relevant pixels of maps (n, H, W).

    Args:
        chosen: which of them, 0 for the most relevant, (n, r).
        heights, widths: of the rectangles in pixels, (n, r).

    Raises:
        ReldropError: the maps have fewer than k pixels.
    """
    if k > relevance[0].numel():
        raise ReldropError(f"k={k} must be at most the {relevance[0].numel()} pixels of an image")
    centers = relevance.flatten(1).topk(k).indices.gather(1, chosen)
    top = centers // relevance.shape[-1] - heights // 2
    left = centers % relevance.shape[-1] - widths // 2
    return rectangles(top, left, heights, widths, tuple(relevance.shape[1:]))


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

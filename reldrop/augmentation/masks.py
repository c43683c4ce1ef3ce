"""Which features to occlude: boolean masks for a whole batch at once.

The few numbers per image (coins, sizes, positions) are drawn on the CPU and copied over without waiting; what depends on
relevance stays on its device. Nothing here loops over images or makes the host wait for the device.
"""

import math

import torch
from torch import Tensor

MAX_DRAWS = 100  # of a rectangle, until one fits into the image (Zhong et al. 2020)


def draw_sizes(
    shape: tuple[int, ...],
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Draw heights and widths of rectangles by the law of Random Erasing (Zhong et al. 2020, Algorithm 1).

    The area is uniform in `area` (a share of the image), the aspect ratio h / w is exp(U(log aspect, -log aspect)); the
    first of 100 draws that is smaller than the image in both directions counts.

    Args:
        shape: of the result, e.g. (images, rectangles).
        size: (H, W) of the image in pixels.
        aspect: smallest aspect ratio, in (0, 1].

    Returns:
        heights and widths, int64, at least 1; both 0 where none of the draws fitted.
    """
    height, width = size
    share = torch.empty(*shape, MAX_DRAWS).uniform_(*area, generator=generator)
    ratio = torch.empty(*shape, MAX_DRAWS).uniform_(math.log(aspect), -math.log(aspect), generator=generator).exp()
    pixels = share * height * width
    heights = (pixels * ratio).sqrt().round().long().clamp(min=1)
    widths = (pixels / ratio).sqrt().round().long().clamp(min=1)
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


def most_relevant(relevance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns (n, k) of the k most relevant pixels of maps (n, H, W), the most relevant first."""
    order = relevance.flatten(1).topk(k).indices
    return order // relevance.shape[-1], order % relevance.shape[-1]


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

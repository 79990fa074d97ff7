"""Multi-scale structural similarity, differentiable, for losses and comparisons."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, _SIGMA = 11, 1.5  # samples: the window's side, which no image may be smaller than
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean multi-scale structural similarity of grey images [B, 1, H, W] of 0..1 (Wang, Simoncelli
    and Bovik, 2003), at as many of its five scales as the images are large enough for."""
    weights = scale_weights(*a.shape[-2:])
    result = a.new_ones(())
    for scale, weight in enumerate(weights):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, contrast = _similarity(a, b)
        if scale == len(weights) - 1:
            contrast = contrast * luminance
        # Negative similarities exist, and have no power.
        result = result * contrast.mean((1, 2, 3)).clamp(min=1e-4) ** weight
    return result.mean()


def scale_weights(height: int, width: int) -> list[float]:
    """The exponents of the scales that an image of this size is large enough for; their sum is
    1."""
    scales = len(_WEIGHTS)
    while scales > 1 and min(height, width) >> (scales - 1) < WINDOW:
        scales -= 1
    return [weight / sum(_WEIGHTS[:scales]) for weight in _WEIGHTS[:scales]]


def window() -> Tensor:
    """Float32 [WINDOW]: the Gaussian that means are weighted by along each axis; its sum is 1."""
    offsets = torch.arange(WINDOW, dtype=torch.float32) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return weights / weights.sum()


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(luminance, contrast-structure) maps of SSIM."""
    line = window().to(a)
    stack = torch.cat([a, b, a * a, b * b, a * b], 1)
    blurred = F.conv2d(stack, line.view(1, 1, -1, 1).expand(5, -1, -1, -1), groups=5)
    blurred = F.conv2d(blurred, line.view(1, 1, 1, -1).expand(5, -1, -1, -1), groups=5)
    mean_a, mean_b, square_a, square_b, product = torch.split(blurred, 1, 1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    return luminance, (2 * (product - mean_a * mean_b) + c2) / (variances + c2)

"""Multi-scale structural similarity, differentiable, for losses and comparisons."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales
_WINDOW, _SIGMA = 11, 1.5


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean multi-scale structural similarity of grey images [B, 1, H, W] of 0..1 (Wang, Simoncelli
    and Bovik, 2003), at as many of its five scales as the images are large enough for."""
    scales = len(_WEIGHTS)
    while scales > 1 and min(a.shape[-2:]) >> (scales - 1) < _WINDOW:
        scales -= 1
    weights = [weight / sum(_WEIGHTS[:scales]) for weight in _WEIGHTS[:scales]]
    result = a.new_ones(())
    for scale, weight in enumerate(weights):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, contrast = _similarity(a, b)
        if scale == scales - 1:
            contrast = contrast * luminance
        # Negative similarities exist, and have no power.
        result = result * contrast.mean((1, 2, 3)).clamp(min=1e-4) ** weight
    return result.mean()


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(luminance, contrast-structure) maps of SSIM."""
    offsets = torch.arange(_WINDOW, device=a.device, dtype=a.dtype) - _WINDOW // 2
    window = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window = window / window.sum()
    stack = torch.cat([a, b, a * a, b * b, a * b], 1)
    blurred = F.conv2d(stack, window.view(1, 1, -1, 1).expand(5, -1, -1, -1), groups=5)
    blurred = F.conv2d(blurred, window.view(1, 1, 1, -1).expand(5, -1, -1, -1), groups=5)
    mean_a, mean_b, square_a, square_b, product = torch.split(blurred, 1, 1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    return luminance, (2 * (product - mean_a * mean_b) + c2) / (variances + c2)

"""What a fit minimizes: the distortion between packed frames, as one number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = 4  # packed channels of luma
MEMORY = 0.02  # weight of a batch in the running means


class Loss:
    """Squared error balanced between the planes and, for a part, structural dissimilarity.

    size: (rows, columns) of the packed frame without its padding, which is not worth any bits.
    plane_balance: 0: all samples count alike; 1: as in the PSNR 6:1:1 of the planes.
    structure: 0..1, how much of the loss is 1 - MS-SSIM of luma.
    """

    def __init__(self, size: tuple[int, int], plane_balance: float, structure: float):
        self.size, self.plane_balance, self.structure = size, plane_balance, structure
        self.plane_errors: Tensor | None = None  # running means
        self.dissimilarity: Tensor | None = None

    def __call__(
        self, decoded: Tensor, target: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(loss, mean squared error) of packed frames [B, channels, H, W], black 0 .. white 1;
        the loss is on the scale of the error. Samples that are `hidden` (bool, the same shape)
        count for nothing."""
        height, width = self.size
        decoded = decoded.float()[..., :height, :width]
        target = target[..., :height, :width]
        share: Tensor | float = 1.0  # of each channel's samples that count
        if hidden is not None:
            hidden = hidden[..., :height, :width]
            share = 1 - hidden.float().mean((0, 2, 3))
            decoded = torch.where(hidden, target, decoded)
        channels = (decoded - target).square().mean((0, 2, 3)) / (share + 1e-9)
        error = channels.mean()
        loss = self.balanced(channels)
        if self.structure:
            loss = (1 - self.structure) * loss + self.structure * self.structural(decoded, target)
        return loss, error

    def balanced(self, channels: Tensor) -> Tensor:
        """Squared errors [channels] as one, on the scale of their mean.

        The PSNR that codecs are compared by is the mean of the planes' logarithms, weighted 6:1:1,
        whose gradient is the planes' weights over their errors. `plane_balance` is the exponent of
        those errors, so it goes from plain squared error's balance to that of the PSNR."""
        if not self.plane_balance or len(channels) == LUMA:
            return channels.mean()
        planes = [channels[:LUMA], *torch.split(channels[LUMA:], (len(channels) - LUMA) // 2)]
        errors = torch.stack([plane.mean() for plane in planes])
        if self.plane_errors is None:
            self.plane_errors = errors.detach().clamp(min=1e-4)
        # A plane of which nothing was shown has no error, and says nothing.
        errors_seen = torch.where(errors > 0, errors, self.plane_errors).detach().clamp(min=1e-10)
        self.plane_errors.lerp_(errors_seen, MEMORY)
        shares = errors.new_tensor([len(plane) / len(channels) for plane in planes])
        wanted = errors.new_tensor([0.75, 0.125, 0.125])
        weights = shares ** (1 - self.plane_balance)
        weights = weights * (wanted / self.plane_errors) ** self.plane_balance
        weights = weights * (shares @ self.plane_errors) / (weights @ self.plane_errors)
        return weights @ errors

    def structural(self, decoded: Tensor, target: Tensor) -> Tensor:
        """1 - MS-SSIM of luma, scaled to the running mean squared error."""
        with torch.autocast(decoded.device.type, enabled=False):
            a, b = (F.pixel_shuffle(x[:, :LUMA], 2) for x in (decoded, target))
            dissimilarity = 1 - ms_ssim(a, b)
            error = (a - b).square().mean().detach().clamp(min=1e-10)
        if self.dissimilarity is None:
            self.dissimilarity = (dissimilarity / error).detach()
        self.dissimilarity.lerp_((dissimilarity / error).detach(), MEMORY)
        return dissimilarity / self.dissimilarity


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

"""The distortion between packed frames as one number, which a fit minimizes."""

from __future__ import annotations

import torch
from torch import Tensor

from hnervcodec.fitting.ms_ssim_kernel import ms_ssim
from hnervcodec.metrics.ms_ssim import WINDOW

LUMA = 4  # packed channels of luma
MEMORY = 0.02  # weight of a batch in the running means


def _luma(x: Tensor) -> Tensor:
    """Luma [B, 1, 2 H, 2 W] of packed samples [B, channels, H, W]: pixel_shuffle of the first
    channels, but fast where channels are last in memory, too."""
    batch, _, height, width = x.shape
    quads = x[:, :LUMA].permute(0, 2, 3, 1).reshape(batch, height, width, 2, 2)
    return quads.permute(0, 1, 3, 2, 4).reshape(batch, 1, 2 * height, 2 * width)


class Loss:
    """Computes the loss of a batch: squared error, balanced between the planes, and for a part
    structural dissimilarity. Both are scaled by running means, so it remembers earlier batches.

    size: (rows, columns) of the packed frame without its padding, which is not worth any bits.
    plane_balance: 0: all samples count alike; 1: as in the PSNR 6:1:1 of the planes.
    structure: 0..1, how much of the loss is 1 - MS-SSIM of luma, if that is large enough.
    """

    def __init__(self, size: tuple[int, int], plane_balance: float, structure: float):
        self.size, self.plane_balance = size, plane_balance
        self.structure = structure if 2 * min(size) >= WINDOW else 0.0
        self.plane_errors: Tensor | None = None  # running means
        self.dissimilarity: Tensor | None = None

    def measure(
        self, decoded: Tensor, target: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the loss has to know of some frames of a batch: of packed frames [B, channels, H,
        W], black 0 .. white 1. Samples that are `hidden` (bool, the same shape) count for nothing.

        Returns ([channels + 1], [channels]), means over these frames: each channel's squared error
        and 1 - MS-SSIM of luma, where it matters; and the share of each channel's samples that
        count, which has no gradient.
        """
        height, width = self.size
        decoded = decoded.float()[..., :height, :width]
        target = target[..., :height, :width]
        shown = target.new_ones(target.shape[1])
        if hidden is not None:
            hidden = hidden[..., :height, :width]
            shown = 1 - hidden.float().mean((0, 2, 3))
            decoded = torch.where(hidden, target, decoded)
        errors = (decoded - target).square().mean((0, 2, 3))
        dissimilarity = errors.new_zeros(1)
        if self.structure:
            with torch.autocast(decoded.device.type, enabled=False):
                dissimilarity = (1 - ms_ssim(_luma(decoded), _luma(target))).view(1)
        return torch.cat([errors, dissimilarity]), shown

    def __call__(self, measured: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, mean squared error) of a batch, from the means of what `measure` returned for its
        frames; the loss is on the scale of the error."""
        errors = measured[:-1]
        channels = errors / (shown + 1e-9)
        return self.balanced(channels, measured[-1]), channels.mean()

    def balanced(self, channels: Tensor, dissimilarity: Tensor) -> Tensor:
        """Squared errors [channels] as one, on the scale of their mean; luma's with its part of
        structural `dissimilarity`, so that chroma counts as much with it as without.

        The PSNR that codecs are compared by is the mean of the planes' logarithms, weighted 6:1:1,
        whose gradient is the planes' weights over their errors. `plane_balance` is the exponent of
        those errors, so it goes from plain squared error's balance to that of the PSNR."""
        chroma = (len(channels) - LUMA) // 2
        planes = torch.split(channels, [LUMA, chroma, chroma] if chroma else [LUMA])
        errors = torch.stack([plane.mean() for plane in planes])
        if self.plane_errors is None:
            self.plane_errors = errors.detach().clamp(min=1e-4)
        # A plane of which nothing was shown has no error, and says nothing.
        errors_seen = torch.where(errors > 0, errors, self.plane_errors).detach().clamp(min=1e-10)
        self.plane_errors.lerp_(errors_seen, MEMORY)
        shares = errors.new_tensor([len(plane) / len(channels) for plane in planes])
        wanted = errors.new_tensor([0.75, 0.125, 0.125][: len(planes)])
        weights = shares ** (1 - self.plane_balance)
        weights = weights * (wanted / self.plane_errors) ** self.plane_balance
        weights = weights * (shares @ self.plane_errors) / (weights @ self.plane_errors)
        loss = weights @ errors
        if self.structure:
            structural = self.structural(dissimilarity, errors[0])
            loss = loss + weights[0] * self.structure * (structural - errors[0])
        return loss

    def structural(self, dissimilarity: Tensor, error: Tensor) -> Tensor:
        """1 - MS-SSIM of luma, scaled to the running mean of its squared `error`."""
        ratio = (dissimilarity / error.clamp(min=1e-10)).detach()
        if self.dissimilarity is None:
            self.dissimilarity = ratio
        self.dissimilarity.lerp_(ratio, MEMORY)
        return dissimilarity / self.dissimilarity

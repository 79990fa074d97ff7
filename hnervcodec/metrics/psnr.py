"""PSNR of planes, as ffmpeg's psnr filter defines it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hnervcodec.planes import Planes


def psnr(mse: float, max_sample: int) -> float:
    """PSNR in dB of a mean squared error between samples of 0..max_sample; infinite for 0."""
    return math.inf if mse == 0 else 10 * math.log10(max_sample**2 / mse)


@dataclass
class PlaneError:
    """Squared error of planes, summed over the frames that are added; PSNRs of all of them."""

    max_sample: int
    squared: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)

    def add(self, reference: Planes, distorted: Planes, hidden: Planes | None = None) -> None:
        """Another frame; samples where `hidden` (bool planes) is True are left out."""
        if not self.squared:
            self.squared, self.samples = [0.0] * len(reference), [0] * len(reference)
        for n, (a, b) in enumerate(zip(reference, distorted, strict=True)):
            difference = a.astype(np.int32) - b.astype(np.int32)
            if hidden is not None:
                difference = difference[~hidden[n]]
            self.squared[n] += float(np.square(difference, dtype=np.int64).sum())
            self.samples[n] += difference.size

    def merge(self, other: PlaneError) -> None:
        """Adds what `other` has counted."""
        if not self.squared:
            self.squared, self.samples = [0.0] * len(other.squared), [0] * len(other.samples)
        for n, (squared, samples) in enumerate(zip(other.squared, other.samples, strict=True)):
            self.squared[n] += squared
            self.samples[n] += samples

    @property
    def per_plane(self) -> list[float]:
        """PSNR in dB of Y, or of Y, Cb and Cr."""
        return [
            psnr(s / max(n, 1), self.max_sample)
            for s, n in zip(self.squared, self.samples, strict=True)
        ]

    @property
    def average(self) -> float:
        """PSNR in dB over all samples (ffmpeg's `average`)."""
        return psnr(sum(self.squared) / max(sum(self.samples), 1), self.max_sample)

    @property
    def weighted(self) -> float:
        """(6 Y + Cb + Cr) / 8 of the planes' PSNRs in dB, as codec comparisons report it; Y of
        grey video."""
        planes = self.per_plane
        return planes[0] if len(planes) == 1 else (6 * planes[0] + planes[1] + planes[2]) / 8

"""Constant quality: what a segment should look like, whatever bytes that takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hnervcodec.errors import UsageError

DB_PER_OCTAVE = 3.0  # PSNR of twice the bytes; more than a fit gains, so that steering is calm
SLOPE_BITS = 0.05  # bits per pixel at which quality and PSNR are the same number


def _check_finite(wanted: float) -> None:
    if not math.isfinite(wanted):
        raise UsageError(f"{wanted} is not a quality")


@dataclass(frozen=True, slots=True)
class ConstantPsnr:
    """A quality target: as many bytes as it takes to reach this PSNR over all samples."""

    psnr: float  # dB

    def __post_init__(self) -> None:
        _check_finite(self.psnr)

    def octaves(self, distortion: float, bits_per_pixel: float) -> float:
        """By how many octaves the size should grow. distortion: squared error of 0..1."""
        return (self.psnr + 10 * math.log10(max(distortion, 1e-10))) / DB_PER_OCTAVE


@dataclass(frozen=True, slots=True)
class ConstantQuality:
    """A quality target: as many bytes as are worth it, which is the same exchange of distortion
    for bits whatever the content, so that easy videos look better and take less than hard ones.
    `quality` has the scale of decibels: 6 more are about twice the bytes and half the
    distortion."""

    quality: float

    def __post_init__(self) -> None:
        _check_finite(self.quality)

    def octaves(self, distortion: float, bits_per_pixel: float) -> float:
        """As in `ConstantPsnr`. Along a curve on which twice the bytes halve the distortion, the
        slope is their ratio and falls by two octaves when the size grows by one."""
        slope = distortion / bits_per_pixel * SLOPE_BITS
        return (self.quality + 10 * math.log10(max(slope, 1e-10))) / (2 * DB_PER_OCTAVE)


QualityTarget = ConstantPsnr | ConstantQuality

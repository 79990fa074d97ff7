"""What the presets mean, in one table. They trade encoding time for quality, never the rate."""

from __future__ import annotations

from dataclasses import dataclass

from hnervcodec.fitting.fit import FitConfig
from hnervcodec.fitting.ratecontrol import ShapeLimits


@dataclass(frozen=True, slots=True)
class Preset:
    """Effort of one encode."""

    fit: FitConfig
    limits: ShapeLimits


PRESETS = {
    "ultrafast": Preset(FitConfig(3), ShapeLimits(4_000, residuals=1)),
    "faster": Preset(FitConfig(15), ShapeLimits(6_000, residuals=3)),
    "fast": Preset(FitConfig(40), ShapeLimits(12_000, residuals=4)),
    "medium": Preset(FitConfig(120), ShapeLimits(12_000, residuals=4)),
    "slow": Preset(FitConfig(300), ShapeLimits(12_000, residuals=4)),
    "veryslow": Preset(FitConfig(750), ShapeLimits(16_000, residuals=6)),
}

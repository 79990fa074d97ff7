"""What the presets mean, in one table. They trade encoding time for quality, never the rate."""

from __future__ import annotations

from dataclasses import dataclass

from hnervcodec.ratecontrol import ShapeLimits


@dataclass(frozen=True, slots=True)
class Preset:
    """Effort of one encode."""

    epochs: int
    limits: ShapeLimits


PRESETS = {
    "ultrafast": Preset(epochs=12, limits=ShapeLimits(3_000, residuals=1, embed_channels=16)),
    "fast": Preset(epochs=60, limits=ShapeLimits(5_000, residuals=3, embed_channels=16)),
    "medium": Preset(epochs=120, limits=ShapeLimits(6_500, residuals=4, embed_channels=16)),
    "slow": Preset(epochs=400, limits=ShapeLimits(8_000, residuals=4, embed_channels=16)),
    "veryslow": Preset(epochs=1200, limits=ShapeLimits(12_000, residuals=6, embed_channels=16)),
}

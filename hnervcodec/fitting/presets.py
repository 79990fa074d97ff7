"""What the presets mean, in one table. They trade encoding time for quality, never the rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a segment is fitted: nothing of this enters the file, unlike `ModelConfig`."""

    updates_per_frame: float  # optimizer steps; small frames get up to twice as many: `training`
    least_steps: int = 20  # of the whole fit: fewer leave a blur, however few the frames
    coarse: float = 0.5  # steps at a fraction of the size before these, as a share of them
    batch_frames: int = 2  # at most; large frames come one by one
    matrix_rate: float = 0.04  # Muon's learning rate, for the convolution kernels
    matrix_decay: float = 0.05  # Muon's weight decay, in units of that rate
    other_rate: float = 2e-3  # Adam's, for everything else
    embedding_rate: float = 4e-3  # Adam's, for the embeddings
    step_rate: float = 1e-2  # Adam's, for the logarithms of the quantizer steps
    warmup: float = 0.05  # share of all steps
    quantize_from: float = 0.5  # share of all steps after which the quantizers are in the loop
    round_activations_from: float = 0.85  # the same for the rounding of activations
    plane_balance: float = 0.5  # 0..1, as in `loss.Loss`
    structure: float = 0.0  # 0..1, as there
    prune: float = 0.0  # share of the weights set to zero (global magnitude)
    rate_weight: float = 0.7  # lambda in units of distortion / rate
    seed: int = 0

    def steps(self, frames: int, each: float = 1.0) -> int:
        """Optimizer steps of the whole fit of so many frames, with `each` for one of those that
        `updates_per_frame` asks for."""
        return max(round(each * self.updates_per_frame * frames), self.least_steps)


@dataclass(frozen=True, slots=True)
class ShapeLimits:
    """The largest network that a preset fits, and every decoder then has to run."""

    macs_per_pixel: int  # multiplications per luma sample of the frame
    residuals: int  # residual convolutions after each of the last two upsamplings, at most


@dataclass(frozen=True, slots=True)
class Preset:
    """A name's worth of effort: how long to fit, and how large a network."""

    fit: FitConfig
    limits: ShapeLimits


PRESETS = {
    "ultrafast": Preset(FitConfig(3, 120, coarse=1.0), ShapeLimits(4_000, residuals=1)),
    "faster": Preset(FitConfig(8, 240, coarse=1.0), ShapeLimits(6_000, residuals=3)),
    "fast": Preset(FitConfig(40, 480), ShapeLimits(12_000, residuals=4)),
    "medium": Preset(FitConfig(120, 960), ShapeLimits(12_000, residuals=4)),
    "slow": Preset(FitConfig(300, 1920), ShapeLimits(12_000, residuals=4)),
    "veryslow": Preset(FitConfig(750, 3840), ShapeLimits(16_000, residuals=6)),
}

"""Bytes: the rate the fit is trained against, and the network that a byte budget affords."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hnervcodec import profiles
from hnervcodec.architecture import ModelConfig, StageConfig, macs_per_frame, weight_count
from hnervcodec.errors import UsageError
from hnervcodec.network import Quantizers, SynthesisNetwork
from hnervcodec.planes import packed_size
from hnervcodec.syntax import VideoHeader

# Bits a weight costs in the networks we choose (range-coded levels of about 5 bits).
BITS_PER_WEIGHT = 5.0
# Bits an embedding value costs after temporal prediction: a rule of thumb, like the one above.
BITS_PER_EMBEDDING = 1.5
MIN_CHANNELS, MAX_CHANNELS = 4, 256
RATIOS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0)  # of a stage's width to the next one's


def tensor_bits(levels: Tensor) -> Tensor:
    """Estimated bits of range-coded `levels` [tables, n] (unrounded), one table per row.

    The value is the cost of the rounded levels under the two-sided geometric distribution of
    `entropy.Table`, its two parameters measured on them; the gradient is each level's marginal
    cost, the slope between the integers around it.
    """
    magnitudes = levels.abs()
    with torch.no_grad():
        rounded = magnitudes.round()
        count = rounded.shape[1]
        total = rounded.sum(1)
        nonzero = torch.count_nonzero(rounded, 1).clamp(1, max(count - 1, 1))
        ratio = (1 - nonzero / total.clamp(min=1)).clamp(1 / 32, 1 - 2.0**-12)
        zero_bits = -torch.log2(1 - nonzero / count)
        one_bits = -torch.log2(nonzero / count * (1 - ratio) / 2)
        slope = -torch.log2(ratio)
        bits = zero_bits * (count - nonzero) + one_bits * nonzero
        bits += slope * (total - nonzero).clamp(min=0)
        climb = (one_bits - zero_bits).clamp(min=0)
    gradient = climb * magnitudes.clamp(max=1).sum(1) + slope * F.relu(magnitudes - 1).sum(1)
    return (bits + gradient - gradient.detach()).sum()


def embedding_bits(levels: Tensor) -> Tensor:
    """Estimated bits of temporally predicted embeddings [T, C, h, w], in unrounded levels."""
    bits = tensor_bits(levels[0].reshape(1, -1))
    if len(levels) > 1:
        deltas = levels[1:] - levels[:-1]
        bits = bits + tensor_bits(deltas.transpose(0, 1).flatten(1))
    return bits


def estimated_bits(network: SynthesisNetwork, quantizers: Quantizers, embedding: Tensor) -> Tensor:
    """Bits of all weights and embeddings under the present steps; differentiable."""
    steps = quantizers.log_steps.exp()
    bits = embedding_bits(embedding / steps[-1])
    for weight, step in zip(network.weights, steps, strict=False):
        bits = bits + tensor_bits((weight / step).view(1, -1))
    return bits


@torch.no_grad()
def scale_steps(
    network: SynthesisNetwork, quantizers: Quantizers, embedding: Tensor, target_bits: float
) -> None:
    """Multiplies all steps by one factor (1/64 .. 64), so that the estimate meets the target."""
    original = quantizers.log_steps.clone()
    low, high = -math.log(64), math.log(64)
    for _ in range(14):
        middle = (low + high) / 2
        quantizers.log_steps.copy_(original + middle)
        if float(estimated_bits(network, quantizers, embedding)) > target_bits:
            low = middle
        else:
            high = middle
    quantizers.log_steps.copy_(original + high)


# ---------------------------------------------------------------- choice of the network


@dataclass(frozen=True, slots=True)
class ShapeLimits:
    """What a preset allows a network."""

    macs_per_pixel: int  # multiplications per luma sample of the frame
    residuals: int  # residual convolutions after each of the last two upsamplings
    embed_channels: int


def _strides(width: int, height: int) -> tuple[int, ...]:
    """Upsampling factors, largest first: an embedding of about ten positions, at no more than
    15 % more padding than the best choice. With many positions the embeddings would take most of
    the bytes from the weights."""
    packed = packed_size(width, height)

    def positions(strides: tuple[int, ...]) -> int:
        s = math.prod(strides)
        return -(-packed[0] // s) * -(-packed[1] // s)

    def padded(strides: tuple[int, ...]) -> int:
        return positions(strides) * math.prod(strides) ** 2

    # Doublings last, where the residual convolutions are; larger steps where pixels are few.
    candidates = [
        (first, *[4] * fours, *[2] * twos)
        for twos in (3, 2, 1, 0) for fours in range(5) for first in (2, 3, 4, 5)
    ]  # fmt: skip
    usable = [s for s in candidates if 4 <= positions(s) <= 160] or [(2,)]
    least = min(map(padded, usable))
    lean = [s for s in usable if padded(s) <= 1.15 * least]
    return min(lean, key=lambda s: abs(math.log(positions(s) / 10)))


def _model(strides: tuple[int, ...], width: int, ratio: float, limits: ShapeLimits,
           embed_channels: int) -> ModelConfig:  # fmt: skip
    """A network that ends with about `width` channels and shrinks by `ratio` per stage."""
    count = len(strides)

    def channels(stage: int) -> int:
        value = width * ratio ** (count - 1 - stage)
        grain = 2 if value >= 16 else 1
        return int(min(max(grain * round(value / grain), MIN_CHANNELS), MAX_CHANNELS))

    stages = tuple(
        StageConfig(
            stride,
            1 if n == 0 else 3,
            channels(n),
            limits.residuals if n >= count - 2 else 0,
        )
        for n, stride in enumerate(strides)
    )
    return ModelConfig(embed_channels, channels(-1) if count > 1 else channels(0), stages, 3)


def segment_overhead(model: ModelConfig, video: VideoHeader, frames: int) -> int:
    """Bytes of a segment besides weights and embeddings: header, tables, biases, CRCs."""
    specs = video.layers(model)
    biases = sum(spec.out_channels for spec in specs)  # about one byte each
    return (
        24
        + 5 * len(model.stages)
        + 4 * (model.embed_channels + 1)
        + 16 * len(specs)
        + (biases + 4 * frames)
    )


def choose_model(
    video: VideoHeader, frames: int, budget: int, limits: ShapeLimits, level: profiles.Level
) -> ModelConfig:
    """The network to fit for a segment of `frames` frames in `budget` bytes.

    Widths as even as the preset's arithmetic allows, and as many weights as the budget pays for.
    """
    strides = _strides(video.width, video.height)
    pixels = video.width * video.height
    candidates: list[tuple[int, ModelConfig]] = []  # (weights, model), evenest and richest first
    for embed_channels in (limits.embed_channels, 8, 4, 2):
        for ratio in RATIOS:
            best = None
            for width in range(MIN_CHANNELS, MAX_CHANNELS):
                model = _model(strides, width, ratio, limits, embed_channels)
                specs = video.layers(model)
                weights = weight_count(specs)
                room = 8 * (budget - segment_overhead(model, video, frames))
                if _bits(model, video, frames) > room or weights > level.weights:
                    break
                if macs_per_frame(specs) > limits.macs_per_pixel * pixels:
                    break
                best = weights, model
            if best:
                candidates.append(best)
        if candidates:
            break
    if candidates:
        most = max(weights for weights, _ in candidates)
        return next(model for weights, model in candidates if weights >= 0.8 * most)
    smallest = _model(strides, MIN_CHANNELS, 1.0, limits, 2)
    need = segment_overhead(smallest, video, frames) + math.ceil(_bits(smallest, video, frames) / 8)
    raise UsageError(
        f"{budget} bytes for {frames} frames of {video.width}x{video.height} are too few: the "
        f"smallest network needs about {need} bytes ({8 * need / pixels / frames:.4f} bpp)"
    )


def _bits(model: ModelConfig, video: VideoHeader, frames: int) -> float:
    """Bits of weights and embeddings, by rule of thumb."""
    specs = video.layers(model)
    embedding = frames * specs[0].in_channels * specs[0].height * specs[0].width
    return BITS_PER_WEIGHT * weight_count(specs) + BITS_PER_EMBEDDING * embedding

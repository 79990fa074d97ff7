"""`FittedSegment` -> `QuantizedSegment`: floats become levels and integer re-quantization."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hnervcodec.architecture import ModelConfig
from hnervcodec.requantization import GAIN_SHIFT, HEAD_HALF, HIDDEN_HALF, MULTIPLIER_SHIFT, UNIT
from hnervcodec.segment import (
    ACCUMULATOR_LIMIT,
    QuantizedLayer,
    QuantizedSegment,
    accumulator_bound,
)
from hnervcodec.syntax import Requant, VideoHeader

EMBED_ZERO = 128  # the encoder's choice of embed_zero_point
# Largest weight magnitude: 127 keeps a layer on the int8 path; stem and head are small and
# sensitive, and may use more.
MAX_WEIGHT = {"stem": 2047, "up": 127, "residual": 127, "head": 2047}
# A bias need not be finer than a quarter of an output level.
BIAS_FINENESS = 4


@dataclass(frozen=True, slots=True)
class FittedSegment:
    """The float side of the waist: arrays and the steps they are to be quantized with."""

    model: ModelConfig
    weights: list[np.ndarray]  # float32, `LayerSpec.weight_shape`
    biases: list[np.ndarray]  # float32 [out]
    steps: list[float]  # of each weight tensor
    gains: list[int]  # of each hidden layer; a level is worth 64 / gain
    zero_points: list[int]
    embedding: np.ndarray  # float32 [T, C, h, w]
    embed_step: float


def quantize(
    fitted: FittedSegment, video: VideoHeader, first_frame: int, *, coarser: float = 1.0
) -> QuantizedSegment:
    """Rounds to levels with the fitted steps, all of them `coarser` times larger. Frame CRCs are
    zero until the frames have been decoded."""
    specs = video.layers(fitted.model)
    embed_step = fitted.embed_step * coarser
    embedding = np.rint(fitted.embedding / np.float32(embed_step)) + EMBED_ZERO
    layers = []
    value, zero_point = embed_step, EMBED_ZERO  # of the layer's input levels
    for n, spec in enumerate(specs):
        step = fitted.steps[n] * coarser
        is_head = spec.kind == "head"
        level_value = (1 << GAIN_SHIFT) / (UNIT * fitted.gains[n]) if not is_head else 0.0
        output_zero = fitted.zero_points[n] if not is_head else 0
        while True:
            unit = step * value  # of the accumulator
            if is_head:
                unit *= video.max_sample
                requant = _head_requant(unit, video.max_sample)
            else:
                requant = _hidden_requant(unit, level_value, output_zero, fitted.gains[n])
            limit = MAX_WEIGHT[spec.kind]
            weight = np.clip(np.rint(fitted.weights[n] / np.float32(step)), -limit, limit)
            bias = fitted.biases[n] * (video.max_sample if is_head else 1.0)
            bias = np.rint(bias / (unit * 2.0**requant.bias_shift))
            layer = QuantizedLayer(
                weight.astype(np.int32), bias.clip(-8191, 8191).astype(np.int32), requant
            )
            if accumulator_bound(layer, spec, zero_point) < ACCUMULATOR_LIMIT:
                break
            step *= 1.1  # rare: only extreme weights reach the bound
        layers.append(layer)
        if not is_head:
            value = level_value
            if spec.kind != "residual":
                zero_point = output_zero
    return QuantizedSegment(
        first_frame=first_frame,
        model=fitted.model,
        specs=specs,
        layers=tuple(layers),
        embedding=embedding.clip(0, 255).astype(np.uint8),
        embed_zero_point=EMBED_ZERO,
        frame_crcs=np.zeros(len(embedding), np.uint32),
    )


def _bias_shift(unit: float, resolution: float) -> int:
    return min(max(math.floor(math.log2(resolution / unit)), 0), 23)


def _hidden_requant(unit: float, level_value: float, zero_point: int, gain: int) -> Requant:
    """Table indices as fine as they can be while they reach the highest output level."""
    highest = 255 * level_value
    shift = min(max(math.ceil(math.log2(highest / (unit * (HIDDEN_HALF - 1)))), 0), 23)
    multiplier = round(unit * 2**shift * UNIT * (1 << MULTIPLIER_SHIFT))
    return Requant(
        bias_shift=_bias_shift(unit, level_value / BIAS_FINENESS),
        shift=shift,
        multiplier=min(max(multiplier, 1), 65535),
        gain=gain,
        zero_point=zero_point,
    )


def _head_requant(unit: float, max_sample: int) -> Requant:
    shift = min(max(math.ceil(math.log2(max_sample / (unit * (HEAD_HALF - 1)))), 0), 23)
    multiplier = round(unit * 2**shift * (1 << GAIN_SHIFT))
    return Requant(_bias_shift(unit, 1 / BIAS_FINENESS), shift, min(max(multiplier, 1), 65535))

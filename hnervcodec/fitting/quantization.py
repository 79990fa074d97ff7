"""`FittedSegment` -> `QuantizedSegment`: floats become levels and integer re-quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hnervcodec.bitstream.architecture import ModelConfig
from hnervcodec.bitstream.headers import Requant, VideoHeader
from hnervcodec.bitstream.range_coding import MAX_LEVEL
from hnervcodec.bitstream.segment import (
    ACCUMULATOR_LIMIT,
    QuantizedLayer,
    QuantizedSegment,
    accumulator_bound,
)
from hnervcodec.synthesis.tables import (
    GAIN_SHIFT,
    HEAD_HALF,
    HIDDEN_HALF,
    MULTIPLIER_SHIFT,
    UNIT,
    head_fraction,
)

EMBED_ZERO = 128  # the encoder's choice of embed_zero_point
# Largest weight magnitude: 127 keeps a layer on the int8 path; stem and head are small and
# sensitive, and may use more.
MAX_WEIGHT = {"stem": 2047, "up": 127, "residual": 127, "head": 2047}
# A bias need not be finer than a quarter of an output level.
BIAS_FINENESS = 4


@dataclass(frozen=True, slots=True)
class FittedSegment:
    """What a fit ends with, on the float side of the waist: arrays, and the steps to quantize them
    with."""

    model: ModelConfig
    weights: list[np.ndarray]  # float32, `LayerSpec.weight_shape`
    biases: list[np.ndarray]  # float32 [out]
    steps: list[float]  # of each weight tensor
    gains: list[int]  # of each hidden layer; a level is worth 64 / gain
    zero_points: list[int]
    embedding: np.ndarray  # float32 [T, C, h, w]
    embed_step: float


def level_value(gain: int) -> float:
    """What one output level of a layer with this gain is worth."""
    return (1 << GAIN_SHIFT) / (UNIT * gain)


def quantize(
    fitted: FittedSegment,
    video: VideoHeader,
    first_frame: int,
    coarser: Mapping[int, float] = MappingProxyType({}),
) -> QuantizedSegment:
    """Rounds to levels with the fitted steps; `coarser` holds factors for the steps of single
    tensors, by number of the layer (the embeddings': -1). Steps too fine for the range of the
    levels are enlarged. Frame CRCs are zero until the frames have been decoded."""
    specs = video.layers(fitted.model)
    largest = float(np.abs(fitted.embedding).max())
    embed_step = max(fitted.embed_step * coarser.get(-1, 1.0), largest / (255 - EMBED_ZERO))
    embedding = np.rint(fitted.embedding / np.float32(embed_step)) + EMBED_ZERO
    layers = []
    value, zero_point = embed_step, EMBED_ZERO  # of the layer's input levels
    for n, spec in enumerate(specs):
        limit = MAX_WEIGHT[spec.kind]
        largest = float(np.abs(fitted.weights[n]).max())
        step = max(fitted.steps[n] * coarser.get(n, 1.0), largest / limit)
        is_head = spec.kind == "head"
        output_value = level_value(fitted.gains[n]) if not is_head else 0.0
        output_zero = fitted.zero_points[n] if not is_head else 0
        while True:
            unit = step * value  # of the accumulator, in samples or pre-activations
            bias = fitted.biases[n].astype(np.float64)
            if is_head:
                unit, bias = unit * video.max_sample, bias * video.max_sample
                requant, excess = _head_requant(unit, bias, video.bit_depth)
            else:
                requant, excess = _hidden_requant(
                    unit, bias, output_value, output_zero, fitted.gains[n]
                )
            weight = np.clip(np.rint(fitted.weights[n] / np.float32(step)), -limit, limit)
            layer = QuantizedLayer(
                weight.astype(np.int32),
                np.rint(bias / (unit * 2.0**requant.bias_shift)).astype(np.int32),
                requant,
            )
            # Rare: a step so coarse that the multiplier has no room, or so fine (for extreme
            # weights) that the accumulators have none.
            if excess > 1:
                step /= excess
            elif accumulator_bound(layer, spec, zero_point) >= ACCUMULATOR_LIMIT:
                step *= 1.1
            else:
                break
        layers.append(layer)
        if not is_head:
            value = output_value
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


def _bias_shift(unit: float, bias: np.ndarray, resolution: float) -> int:
    """As fine as `resolution` asks, as coarse as the largest bias needs."""
    resolution = max(resolution, float(np.abs(bias).max()) / (MAX_LEVEL - 1))
    return min(max(math.ceil(math.log2(resolution / unit)), 0), 23)


def _requant(unit: float, highest: float, half: int, fraction: int) -> tuple[int, int, float]:
    """(shift, multiplier, excess): table indices as fine as they can be while they reach
    `highest`; `fraction` is the fixed point of the multiplier. `excess` > 1 is the factor by
    which the unit is too coarse for the multiplier's 16 bits."""
    shift = min(max(math.ceil(math.log2(highest / (unit * (half - 1)))), 0), 23)
    multiplier = unit * 2**shift * (1 << fraction)
    return shift, min(max(round(multiplier), 1), 65535), multiplier / 65535


def _hidden_requant(
    unit: float, bias: np.ndarray, output_value: float, zero_point: int, gain: int
) -> tuple[Requant, float]:
    fraction = MULTIPLIER_SHIFT + int(math.log2(UNIT))
    shift, multiplier, excess = _requant(unit, 255 * output_value, HIDDEN_HALF, fraction)
    bias_shift = _bias_shift(unit, bias, output_value / BIAS_FINENESS)
    return Requant(bias_shift, shift, multiplier, gain, zero_point), excess


def _head_requant(unit: float, bias: np.ndarray, bit_depth: int) -> tuple[Requant, float]:
    fraction = head_fraction(bit_depth)
    shift, multiplier, excess = _requant(unit, (1 << bit_depth) - 1, HEAD_HALF, fraction)
    bias_shift = _bias_shift(unit, bias, 2.0 ** (bit_depth - 8) / BIAS_FINENESS)
    return Requant(bias_shift, shift, multiplier), excess

"""Normative per-layer tables in integers (spec section "Re-quantization"); no torch.

    t = (acc + 2^(shift-1)) >> shift                   clipped to the table's range
    u = (t * multiplier + 2^9) >> 10                   pre-activation, 1/1024 per unit
    g = max(u, 0) - gelu[min(|u|, 4095)]               GELU(u), 1/1024 per unit
    offset = (g * gain + 2^11) >> 12                   sixteenths of a level above the zero point

Within a stage the sum x + GELU(...) runs in sixteenths, so that the roundings to levels, which
every convolution needs for its input, do not add up along the residual layers.

The head has neither GELU nor gain: sample = (t * multiplier + 2^(f-1)) >> f, clipped, with
f = 24 - bit_depth.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hnervcodec.bitstream.architecture import LayerKind
from hnervcodec.bitstream.headers import Requant

GELU_SHA256 = "627dc8435d2e313498b2ab3521b1077797d8d2c146063ce9deee5e95307e8f67"
HIDDEN_HALF = 2048  # table indices t of a hidden layer: -2048..2047
HEAD_HALF = 8192  # and of the head: -8192..8191
UNIT = 1024  # fixed-point units per 1.0
MULTIPLIER_SHIFT = 10
GAIN_SHIFT = 16  # of GELU in fixed point -> whole levels
FINE_SHIFT = 4  # a level has 16 fine levels
FINE_MAX = 255 << FINE_SHIFT


_INDICES = np.arange(-HIDDEN_HALF, HIDDEN_HALF, dtype=np.int64)


@cache
def gelu_table() -> np.ndarray:
    """int64 [4096]: max(x, 0) - GELU(x) at x = m / 1024, in 1/1024."""
    data = files("hnervcodec.synthesis").joinpath("gelu.bin").read_bytes()
    if hashlib.sha256(data).hexdigest() != GELU_SHA256:
        raise RuntimeError("hnervcodec/synthesis/gelu.bin is damaged: reinstall hnervcodec")
    return np.frombuffer(data, np.uint8).astype(np.int64)


def hidden_table(requant: Requant) -> np.ndarray:
    """int64 [4096]: for each table index t = -2048..2047 the output in fine levels, sixteenths of a
    level, relative to the zero point."""
    u = _INDICES * requant.multiplier
    u += 1 << MULTIPLIER_SHIFT - 1  # in its own place, here and below: half as long
    u >>= MULTIPLIER_SHIFT
    table, near = gelu_table(), np.abs(u)
    near = table.take(np.minimum(near, len(table) - 1, out=near))
    offsets: np.ndarray = np.maximum(u, 0, out=u)
    offsets -= near
    shift = GAIN_SHIFT - FINE_SHIFT
    offsets *= requant.gain
    offsets += 1 << shift - 1
    offsets >>= shift
    return offsets


def head_fraction(bit_depth: int) -> int:
    """Binary places of the head's multiplier: deeper samples need larger ones."""
    return 24 - bit_depth


def head_table(requant: Requant, bit_depth: int) -> np.ndarray:
    """int64 [16384]: the sample of each table index t = -8192..8191."""
    samples = np.arange(-HEAD_HALF, HEAD_HALF, dtype=np.int64)
    fraction = head_fraction(bit_depth)
    # In its own place: of small segments this is most of what loading one takes.
    samples *= requant.multiplier
    samples += 1 << fraction - 1
    samples >>= fraction
    return samples.clip(0, (1 << bit_depth) - 1, out=samples)


def to_levels(fine: Any) -> Any:
    """Sixteenths of levels, numpy or torch, to the nearest levels (halves up)."""
    return (fine + (1 << FINE_SHIFT - 1)) >> FINE_SHIFT


def output_table(kind: LayerKind, requant: Requant, is_fine: bool, bit_depth: int) -> np.ndarray:
    """int64: what a layer of this kind (`LayerSpec.kind`) makes of each table index.

    head: samples. residual: fine levels, to be added to the stream. Others: levels, or fine levels
    where residual layers follow (`is_fine`)."""
    if kind == "head":
        return head_table(requant, bit_depth)
    offsets = hidden_table(requant)
    if kind == "residual":
        return offsets.clip(-FINE_MAX, FINE_MAX)
    offsets += requant.zero_point << FINE_SHIFT
    fine = offsets.clip(0, FINE_MAX)
    levels: np.ndarray = fine if is_fine else to_levels(fine)
    return levels

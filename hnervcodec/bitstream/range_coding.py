"""Integer frequency tables and the range coder (spec sections "Frequency tables", "Range coder").

The only module that imports constriction. A table is three small integers; `frequencies` expands
them with integer arithmetic alone, so encoder and decoder agree on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import constriction
import numpy as np

from hnervcodec.errors import FileError

PRECISION = 24  # bits: the frequencies of a table sum to 2**PRECISION
MAX_LEVEL = 8191  # the largest magnitude a table can code
MAX_DECAY = 191  # see `decay_ratio`


@dataclass(frozen=True, slots=True)
class Table:
    """A symmetric distribution over the levels -max_level..max_level.

    Level 0 has probability (2 zero + 1) / 512; magnitudes fall off geometrically with the ratio
    that `decay` stands for (`decay_ratio`). `max_level` 0 means that every level is 0 and no
    symbol is coded.
    """

    max_level: int  # 0..MAX_LEVEL
    zero: int  # 0..255
    decay: int  # 0..MAX_DECAY


def decay_ratio(decay: int) -> int:
    """The ratio of neighbouring magnitudes' frequencies, in 1/65536: 2048 .. 65520."""
    return 65536 - ((31 - (decay & 15)) << (11 - (decay >> 4)))


@cache
def _weights(decay: int, count: int) -> np.ndarray:
    """int64 [count]: the weights of the magnitudes 1, 2 ..: at most 128 kB for each of 192 decays
    if `count` is a power of two; all tables share them."""
    ratio, weight = decay_ratio(decay), 1 << 30
    weights = []
    for _ in range(count):
        weights.append(weight)
        weight = weight * ratio >> 16
    return np.array(weights, np.int64)


@lru_cache(maxsize=256)
def frequencies(table: Table) -> np.ndarray:
    """int64 [2 max_level + 1], each >= 1, sum 2**24, for the levels -max_level..max_level."""
    enough = 1 << table.max_level.bit_length()
    weights = _weights(table.decay, enough)[: table.max_level]
    spare = ((1 << PRECISION) - ((2 * table.zero + 1) << 15)) // 2 - table.max_level
    side = 1 + weights * spare // max(1, int(weights.sum()))
    centre = (1 << PRECISION) - 2 * int(side.sum())
    every = np.concatenate([side[::-1], [centre], side])
    every.flags.writeable = False  # as callers share it
    return every


def fit_table(levels: np.ndarray) -> Table:
    """The table that codes `levels` (any shape, |level| <= MAX_LEVEL) in the fewest bits."""
    magnitudes = np.abs(levels).ravel()
    max_level = int(magnitudes.max(initial=0))
    if max_level == 0:
        return Table(0, 0, 0)
    zeros = int(np.count_nonzero(magnitudes == 0))
    zero = round((zeros / magnitudes.size * 512 - 1) / 2)
    zero = min(max(zero, 0), 255)
    mean = float(magnitudes.sum()) / (magnitudes.size - zeros)
    # The maximum-likelihood ratio of an unbounded geometric distribution, then its neighbours:
    # the alphabet's end and the rounding of `decay` shift the optimum by a step or two.
    tail = min(max(1 / mean, 2.0**-11), 31 / 32)
    exponent = min(math.floor(-math.log2(tail)), 11)
    guess = 16 * exponent + 31 - round(tail * 2.0 ** (exponent + 5))
    candidates = {min(max(guess + step, 0), MAX_DECAY) for step in (-3, -2, -1, 0, 1, 2, 3)}
    return min(
        (Table(max_level, zero, decay) for decay in sorted(candidates)),
        key=lambda table: cost_bits(table, levels),
    )


def cost_bits(table: Table, levels: np.ndarray) -> float:
    """Information content of integer `levels` (any shape) under `table`, in bits."""
    if table.max_level == 0:
        return 0.0
    counts = np.bincount(levels.ravel().astype(np.int64) + table.max_level)
    used = counts.nonzero()[0]
    return float((counts[used] * (PRECISION - np.log2(frequencies(table)[used]))).sum())


@lru_cache(maxsize=2048)  # of 1024 channels and 130 layers each may have its own
def _model(table: Table) -> constriction.stream.model.Categorical:
    # f - 1 with perfect=False makes constriction use exactly f (it gives each symbol one count
    # and shares the rest); perfect=True, the default, prints a warning to stdout.
    weights = (frequencies(table) - 1).astype(np.float64)
    return constriction.stream.model.Categorical(weights, perfect=False)


def encode(pieces: Sequence[tuple[Table, np.ndarray]]) -> bytes:
    """Codes each array's levels in C order, one range coder for all pieces; little-endian words."""
    coder = constriction.stream.queue.RangeEncoder()
    for table, levels in pieces:
        if table.max_level and levels.size:
            symbols = (levels.ravel() + table.max_level).astype(np.int32)
            coder.encode(symbols, _model(table))
    return bytes(coder.get_compressed().astype("<u4").tobytes())


class LevelDecoder:
    """Reads the pieces that `encode` wrote back, in their order."""

    def __init__(self, data: bytes | memoryview):
        """`data`: whole 32-bit words; the caller has checked the CRC and the level's limits."""
        words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, table: Table, count: int) -> np.ndarray:
        """The next `count` levels, int32 [count]. FileError where the data is corrupt."""
        if table.max_level == 0 or count == 0:
            return np.zeros(count, np.int32)
        try:
            symbols = self._coder.decode(_model(table), count)
        except (AssertionError, ValueError) as error:  # constriction's words for corrupt data
            raise FileError("range-coded data is corrupt", element="coded_levels") from error
        return np.asarray(symbols, np.int32) - np.int32(table.max_level)

    def end(self) -> None:
        """FileError if words are left that belong to no level."""
        if not self._coder.maybe_exhausted():
            raise FileError("range-coded data is longer than its levels", element="coded_levels")

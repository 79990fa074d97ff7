"""Frequency tables and the range coder."""

import numpy as np
import pytest
from golden_streams import GOLDEN_FREQUENCIES, GOLDEN_STREAM
from hypothesis import given
from hypothesis import strategies as st

from hnervcodec.bitstream import range_coding
from hnervcodec.bitstream.range_coding import MAX_DECAY, MAX_LEVEL, LevelDecoder, Table
from hnervcodec.errors import FileError

# The specification gives the same two examples.

tables = st.builds(Table, st.integers(0, MAX_LEVEL), st.integers(0, 255), st.integers(0, MAX_DECAY))


def spec_decode(data: bytes, symbols: list[np.ndarray]) -> tuple[list[int], bool]:
    """The range decoder exactly as the specification writes it, one table per symbol: the symbols,
    and whether the data was at its end afterwards."""
    words = [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
    position = 0

    def next_word() -> int:
        nonlocal position
        position += 1
        return words[position - 1] if position <= len(words) else 0

    low, span = 0, 2**64 - 1
    point = next_word() << 32 | next_word()
    decoded = []
    for frequencies in symbols:
        cdf = [0, *np.cumsum(frequencies).tolist()]
        scale = span >> 24
        q = ((point - low) % 2**64) // scale
        assert q < 2**24
        k = max(n for n in range(len(cdf)) if cdf[n] <= q)
        low = (low + scale * cdf[k]) % 2**64
        span = scale * (cdf[k + 1] - cdf[k])
        if span < 2**32:
            low, span = (low << 32) % 2**64, span << 32
            point = (point << 32) % 2**64 | next_word()
        decoded.append(k)
    at_end = span == 2**64 - 1 or (point - low) % 2**64 < 2**33 - 1
    return decoded, position >= len(words) and at_end


@given(tables)
def test_frequencies_are_a_distribution(table: Table) -> None:
    frequencies = range_coding.frequencies(table)
    assert len(frequencies) == 2 * table.max_level + 1
    assert frequencies.min() >= 1
    assert frequencies.sum() == 2**24
    assert (frequencies == frequencies[::-1]).all()


def test_golden_frequencies() -> None:
    assert range_coding.frequencies(Table(3, 63, 40)).tolist() == GOLDEN_FREQUENCIES


def test_golden_stream() -> None:
    levels = np.array([0, 1, -1, 3, 0, 0, -3, 2, 1, 0, 0, -2], np.int32)
    wide = np.array([-8191, 0, 8191], np.int32)
    data = range_coding.encode([(Table(3, 63, 40), levels), (Table(8191, 0, 191), wide)])
    assert data.hex() == GOLDEN_STREAM


@pytest.mark.parametrize("scale", [0.05, 0.4, 3, 40, 900])
def test_round_trip_agrees_with_the_specification(scale: float) -> None:
    rng = np.random.default_rng(7)
    levels = np.clip(np.rint(rng.laplace(0, scale, 400)), -MAX_LEVEL, MAX_LEVEL).astype(np.int32)
    table = range_coding.fit_table(levels)
    data = range_coding.encode([(table, levels)])
    decoder = LevelDecoder(data)
    assert (decoder.decode(table, levels.size) == levels).all()
    decoder.end()
    if table.max_level:
        symbols, at_end = spec_decode(data, [range_coding.frequencies(table)] * levels.size)
        assert at_end and (np.array(symbols) - table.max_level == levels).all()


def test_fitted_table_is_close_to_the_entropy() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.3, 2, 20):
        levels = np.rint(rng.laplace(0, scale, 20_000)).astype(np.int32)
        counts = np.unique(levels, return_counts=True)[1] / levels.size
        ideal = -(counts * np.log2(counts)).sum()
        cost = range_coding.cost_bits(range_coding.fit_table(levels), levels) / levels.size
        assert ideal <= cost < 1.01 * ideal + 0.01


def test_fitted_table_beats_its_neighbours() -> None:
    levels = np.rint(np.random.default_rng(5).laplace(0, 6, 5000)).astype(np.int32)
    best = range_coding.fit_table(levels)
    for decay in range(MAX_DECAY + 1):
        other = Table(best.max_level, best.zero, decay)
        assert range_coding.cost_bits(best, levels) <= range_coding.cost_bits(other, levels)


def test_all_zero_levels_cost_nothing() -> None:
    table = range_coding.fit_table(np.zeros(1000, np.int32))
    assert table.max_level == 0
    assert range_coding.encode([(table, np.zeros(1000, np.int32))]) == b""
    assert (LevelDecoder(b"").decode(table, 5) == 0).all()


def test_empty_data_decodes_only_what_is_declared() -> None:
    assert len(LevelDecoder(b"").decode(Table(7, 10, 10), 100)) == 100


def test_the_end_of_the_data_is_where_the_specification_says() -> None:
    rng = np.random.default_rng(11)
    seen = set()
    for _ in range(300):
        levels = np.rint(rng.laplace(0, 3, rng.integers(0, 12))).astype(np.int32)
        table = Table(max(1, int(np.abs(levels).max(initial=0))), 40, 30)
        data = range_coding.encode([(table, levels)])
        for tail in (b"", bytes(4), bytes(8), b"\1\2\3\4"):
            decoder = LevelDecoder(data + tail)
            decoder.decode(table, levels.size)
            try:
                decoder.end()
                ours = True
            except FileError:
                ours = False
            _, theirs = spec_decode(data + tail, [range_coding.frequencies(table)] * levels.size)
            assert ours == theirs
            assert ours or tail
            seen.add((ours, len(data), len(tail)))
    assert {ours for ours, _, _ in seen} == {True, False}


def test_surplus_words_are_refused() -> None:
    levels = np.array([1, -1, 0, 1] * 20, np.int32)
    table = range_coding.fit_table(levels)
    decoder = LevelDecoder(range_coding.encode([(table, levels)]) + bytes(8))
    decoder.decode(table, levels.size)
    with pytest.raises(FileError, match="longer"):
        decoder.end()

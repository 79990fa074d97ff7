"""What a decoder is asked with: times at the edges, numbers of any library, and after its end."""

import io
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import Chunks, join, make_file, make_video, random_segment, split

from hnervcodec.bitstream.ancillary import TIMES, SegmentTimes, write_times
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.errors import UsageError

VIDEO = make_video(2, 2, 0)
U32 = st.one_of(st.integers(1, 9), st.integers(2**32 - 9, 2**32 - 1), st.integers(1, 2**32 - 1))


@pytest.fixture(scope="module")
def file() -> bytes:
    parts = [random_segment(VIDEO, 2, seed=n, first_frame=2 * n) for n in range(2)]
    return make_file(VIDEO, parts)


def with_rate(file: bytes, num: int, den: int) -> bytes:
    prefix, chunks = split(file)
    header = chunks[0][1]
    rate = num.to_bytes(4, "little") + den.to_bytes(4, "little")
    return join(prefix, [(b"VHDR", header[:16] + rate + header[24:]), *chunks[1:]])


def with_times(file: bytes, base: Fraction, first: int, durations: list[int]) -> bytes:
    """Two segments of two frames."""
    prefix, chunks = split(file)
    parts: Chunks = []
    begin = first
    for kind, payload in chunks:
        parts.append((kind, payload))
        if kind == b"SEGM":
            part, durations = tuple(durations[:2]), durations[2:]
            parts.append((TIMES, write_times(SegmentTimes(base, begin, part))))
            begin += sum(part)
    return join(prefix[:9] + b"\1" + prefix[10:], parts)


def check_edges(data: bytes) -> None:
    with Decoder(data) as decoder:
        facts = decoder.metadata
        assert facts.begin_stream_seconds <= facts.end_stream_seconds
        assert facts.begin_stream_seconds_from_content == facts.begin_stream_seconds
        assert facts.end_stream_seconds_from_content == facts.end_stream_seconds
        first = decoder.get_frame_played_at(facts.begin_stream_seconds)
        assert first.pts_seconds == facts.begin_stream_seconds
        between = decoder.get_frame_played_at(facts.begin_stream_seconds, interpolate=True)
        assert 0 <= between.index < 4
        for n in range(4):
            at = decoder.get_frame_at(n).pts_seconds
            assert decoder.get_frame_played_at(at).pts_seconds == at
        last = float(np.nextafter(facts.end_stream_seconds, -np.inf))
        if last >= facts.begin_stream_seconds:
            assert 0 <= decoder.get_frame_played_at(last).index < 4
        if facts.end_stream_seconds > facts.begin_stream_seconds:
            with pytest.raises(IndexError):
                decoder.get_frame_played_at(facts.end_stream_seconds)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(U32, U32)
def test_there_is_a_frame_at_the_begin_at_any_rate(file: bytes, num: int, den: int) -> None:
    check_edges(with_rate(file, num, den))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    U32,
    U32,
    st.one_of(st.integers(-(2**53), 2**53 - 2**35), st.integers(-9, 9)),
    st.lists(st.one_of(st.integers(1, 3), st.integers(1, 2**32)), min_size=4, max_size=4),
)
def test_there_is_a_frame_at_the_begin_at_any_time(
    file: bytes, num: int, den: int, first: int, durations: list[int]
) -> None:
    check_edges(with_times(file, Fraction(num, den), first, durations))


def test_times_that_a_float_cannot_tell(file: bytes) -> None:
    data = with_times(file, Fraction(1, 3), 2**53 - 9, [1, 1, 1, 1])
    check_edges(data)
    with Decoder(data) as decoder:
        begin = decoder.metadata.begin_stream_seconds
        assert decoder.get_frame_played_at(begin).pts_seconds == begin


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor])
def test_whole_numbers_of_any_library(file: bytes, kind: Callable[[int], Any]) -> None:
    with Decoder(file, resize=(kind(7), kind(9)), threads=kind(1), max_level=kind(10)) as decoder:
        expected = decoder[1]
        assert torch.equal(decoder[kind(1)], expected)
        assert torch.equal(decoder[kind(1) : kind(2)][0], expected)
        assert torch.equal(decoder.get_frames_at([kind(1)]).data[0], expected)
        assert torch.equal(decoder.get_frames_in_range(kind(1), kind(3), kind(1)).data[0], expected)
        assert [len(batch) for batch in decoder.iter_batches(kind(3))] == [3, 1]
        assert len(decoder.get_planes_at(kind(1))) == 1
        assert decoder.is_intact(kind(1)) and decoder.arithmetic(kind(1))
        ((position, _),) = decoder.frames([kind(1)])
        assert (position, type(position)) == (1, int)  # so that its checksum was compared
        with pytest.raises(IndexError):
            decoder[kind(4)]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor, Fraction])
def test_times_of_any_library(file: bytes, kind: Callable[[float], Any]) -> None:
    with Decoder(file) as decoder:
        at = kind(0.0625)
        assert decoder.get_frame_played_at(at).index == 1
        assert decoder.get_frames_played_at([at, at]).index.tolist() == [1, 1]
        assert decoder.get_frames_played_in_range(kind(0.0), at).index.tolist() == [0, 1]
        ((position, _),) = decoder.frames([kind(0.5)])
        assert position == Fraction(1, 2)


def test_what_is_no_number_is_said(file: bytes) -> None:
    with Decoder(file) as decoder:
        for call in (
            lambda: decoder.get_frames_at([1.5]),  # type: ignore[list-item]
            lambda: decoder.get_frame_played_at("1"),  # type: ignore[arg-type]
            lambda: decoder.get_frame_at("1"),  # type: ignore[arg-type]
            lambda: list(decoder.iter_batches(0)),
        ):
            with pytest.raises(UsageError):
                call()


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
def test_a_closed_decoder_says_so(file: bytes, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.hnv"
    path.write_bytes(file)
    sources: dict[str, Any] = {"path": path, "bytes": file, "file": io.BytesIO(file)}
    decoder = Decoder(sources[kind])
    unfinished = decoder.frames(range(4))
    next(unfinished)
    decoder.close()
    decoder.close()
    calls: list[Callable[[], object]] = [
        lambda: decoder.video,
        lambda: decoder.metadata,
        lambda: decoder.times,
        lambda: decoder.reader,
        lambda: list(unfinished),
        lambda: len(decoder),
        lambda: decoder[0],
        lambda: decoder[:2],
        lambda: list(decoder),
        lambda: list(decoder.iter_batches(2)),
        lambda: decoder.get_frame_at(0),
        lambda: decoder.get_frames_at([]),
        lambda: decoder.get_frames_in_range(0, 1),
        lambda: decoder.get_all_frames(),
        lambda: decoder.get_frame_played_at(0),
        lambda: decoder.get_frames_played_at([]),
        lambda: decoder.get_frames_played_in_range(0, 0.1),
        lambda: decoder.get_planes_at(0),
        lambda: list(decoder.frames([0])),
        lambda: decoder.is_intact(0),
        lambda: decoder.intact([0]),
        lambda: decoder.arithmetic(),
        lambda: decoder.__enter__(),
        lambda: pickle.dumps(decoder),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"^the decoder is closed$"):
            call()


def test_a_file_that_its_owner_closed(file: bytes) -> None:
    source = io.BytesIO(file)
    decoder = Decoder(source)
    source.close()
    with pytest.raises(UsageError, match="has been closed"):
        decoder[0]

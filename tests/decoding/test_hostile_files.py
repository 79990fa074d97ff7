"""Files of a few kilobytes that claim much: every command answers in bounded time and memory, with
right checksums all the way (spec section 12)."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import pytest
from vectors import (
    Chunks,
    join,
    make_file,
    make_video,
    random_segment,
    split,
    write_payload,
    zero_segment,
)

from hnervcodec.bitstream import joining, segment
from hnervcodec.bitstream.ancillary import (
    AUDIO,
    PACKETS,
    STREAM,
    TIMES,
    PacketTable,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
    write_packets,
    write_stream,
    write_times,
)
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.fields import ByteWriter
from hnervcodec.bitstream.headers import SegmentHeader
from hnervcodec.bitstream.range_coding import Table
from hnervcodec.bitstream.reader import Reader
from hnervcodec.commands import info
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.decoding.selection import Selection, gaps, parse_frames
from hnervcodec.errors import FileError, UsageError

SECONDS, SECONDS_PER_MEGABYTE, MEBIBYTES = 2, 1, 512
SLOWNESS = 3  # of a processor beside the two plain cores for which these hold
VIDEO = make_video(2, 2, 0)
TINY = ModelConfig(1, 1, (StageConfig(1, 1, 1, 0),), 1)
SOUND = StreamInfo(AUDIO, "A_AAC", Fraction(1, 48000), "und", 48000, 2)


@dataclass(frozen=True)
class Run:
    code: int
    stderr: str
    seconds: float  # of the processor
    mebibytes: float


def run(*arguments: object, limit: float = 60) -> Run:
    """The command, what it said, and what it took."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))

    command = [sys.executable, "-m", "hnervcodec", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limited
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    return Run(code, said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def with_side_data(file: bytes, streams: Chunks, after: Chunks) -> bytes:
    """A file with chunks before its first segment and after it."""
    prefix, chunks = split(file)
    prefix = prefix[:9] + b"\1" + prefix[10:]
    return join(prefix, [chunks[0], *streams, chunks[1], *after, *chunks[2:]])


def tiny_file(frames: int = 1) -> bytes:
    return make_file(VIDEO, [random_segment(VIDEO, frames, model=TINY)])


def far_first_frame(first: int) -> bytes:
    """A second segment that begins at frame `first`; without an index, as that would tell."""
    payload = segment.write(random_segment(VIDEO, 1, model=TINY))
    prefix, chunks = split(tiny_file())
    return join(prefix, [*chunks[:2], (b"SEGM", segment.with_first_frame(payload, first))])


def many_streams() -> bytes:
    """64 streams; 100,000 packets of nothing."""
    w = ByteWriter()
    w.u8(0)
    w.uv(100_000)
    w.raw(bytes(300_000))
    streams = [(STREAM, write_stream(SOUND))] * 64
    return with_side_data(tiny_file(), streams, [(PACKETS, w.getvalue())])


def many_tables(segments: int = 20) -> bytes:
    """1,024 channels with tables of 8,191 levels each, in every segment the same."""
    part = zero_segment(VIDEO, 2, ModelConfig(1024, 1, (StageConfig(1, 1, 1, 0),), 1))

    def large(number: int) -> bytes:
        numbers = count()

        def change(header: SegmentHeader) -> SegmentHeader:
            return replace(header, first_frame=2 * number)

        def table(_: Table) -> Table:
            n = next(numbers)
            return Table(8191, n % 256, n % 192) if n <= 1024 else Table(0, 0, 0)

        return write_payload(part, change, tables=table)

    return make_file(VIDEO, [(large(n), 2) for n in range(segments)])


def many_chunks() -> bytes:
    return with_side_data(tiny_file(), [], [(b"teST", b"")] * 20_000)


def many_segments(count: int = 400) -> bytes:
    payload = segment.write(random_segment(VIDEO, 1, model=TINY))
    return make_file(VIDEO, [(segment.with_first_frame(payload, n), 1) for n in range(count)])


def slow_time_base() -> bytes:
    times = SegmentTimes(Fraction(1, 2**32 - 1), 2**53 - 1, (2**32,))
    return with_side_data(tiny_file(), [], [(TIMES, write_times(times))])


def slow_rate() -> bytes:
    return make_file(
        replace(VIDEO, frame_rate=Fraction(1, 2**32 - 1)), [random_segment(VIDEO, 1, model=TINY)]
    )


CASES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    # what makes the file; exit codes of info, verify, decode, decode --recover, join
    "first-frame-50M": (lambda: far_first_frame(50_000_000), (3, 3, 3, 3, 3)),
    "first-frame-last": (lambda: far_first_frame(2**32 - 2), (3, 3, 3, 3, 3)),
    "streams": (many_streams, (0, 0, 0, 0, 0)),
    "tables": (many_tables, (0, 0, 0, 0, 0)),
    "chunks": (many_chunks, (0, 0, 0, 0, 0)),
    "segments": (many_segments, (0, 0, 0, 0, 0)),
    "time-base": (slow_time_base, (0, 0, 0, 0, 2)),
    "rate": (slow_rate, (0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_work_is_bounded_by_the_file(case: str, tmp_path: Path) -> None:
    maker, codes = CASES[case]
    file, out = tmp_path / "x.hnv", tmp_path / "out.y4m"
    file.write_bytes(maker())
    commands: list[list[object]] = [
        ["info", file],
        ["verify", file],
        ["decode", file, "-o", out, "-y"],
        ["decode", file, "-o", out, "-y", "--recover"],
        ["join", file, file, "-o", tmp_path / "joined.hnv"],
    ]
    limit = SLOWNESS * (SECONDS + SECONDS_PER_MEGABYTE * file.stat().st_size / 1e6)
    for command, code in zip(commands, codes, strict=True):
        done = run(*command, limit=2 * limit)
        assert (done.code, done.seconds < limit) == (code, True), (command, done)
        assert done.mebibytes < MEBIBYTES, (command, done)
        if code:
            assert done.stderr.startswith("hnv: ") and done.stderr.count("\n") == 1, done
            assert len(done.stderr) < 600, done


@pytest.mark.slow
def test_info_of_a_megabyte_of_tiny_segments(tmp_path: Path) -> None:
    (tmp_path / "x.hnv").write_bytes(data := many_segments(7_000))
    limit = SLOWNESS * (SECONDS_PER_MEGABYTE * len(data) / 1e6)
    done = run("info", tmp_path / "x.hnv", limit=2 * limit)
    assert (done.code, done.seconds < limit) == (0, True), done.seconds


@pytest.mark.parametrize("first", [50_000_000, 2**32 - 2])
def test_missing_frames_are_ranges(first: int) -> None:
    with Decoder(far_first_frame(first), recover=True) as decoder:
        assert len(decoder) == first + 1
        intact = decoder.intact(range(len(decoder)))
        assert intact == [range(1), range(first, first + 1)]
        assert gaps(intact, len(decoder)) == [range(1, first)]
        everything = Selection([range(len(decoder))])
        assert list(everything.within(intact)) == [0, first]
        assert str(everything.within(gaps(intact, len(decoder)))) == f"1-{first - 1}"
        every_third = parse_frames("::-3", len(decoder))
        expected = [n for n in (first, 0) if first % 3 == n % 3]
        assert list(every_third.within(intact)) == expected
        assert [n for n, _ in decoder.frames([0, first])] == [0, first]


def test_selections() -> None:
    chosen = parse_frames("7,2-5,9:1:-3,0:9:4", 10)
    assert list(chosen) == [7, 2, 3, 4, 5, 9, 6, 3, 0, 4, 8]
    assert [chosen[n] for n in range(-len(chosen), len(chosen))] == 2 * list(chosen)
    assert str(chosen) == "7,2-5,9:2:-3,0:9:4"
    assert list(parse_frames(str(chosen), 10)) == list(chosen)
    for intervals in ([], [range(10)], [range(3), range(5, 6), range(8, 10)], [range(4, 8)]):
        inside = chosen.within(intervals)
        outside = chosen.within(gaps(intervals, 10))
        assert list(inside) == [n for n in chosen if any(n in part for part in intervals)]
        assert sorted([*inside, *outside]) == sorted(chosen)
    assert parse_frames("0-3,4,5", 9).is_consecutive and not chosen.is_consecutive
    assert len(str(Selection([range(n, n + 1) for n in range(0, 200, 2)]))) < 100


# ---------------------------------------------------------------- join


def joined(*files: bytes) -> Reader:
    whole = io.BytesIO()
    joining.join([Reader(io.BytesIO(file)) for file in files], whole)
    reader = Reader(whole)
    reader.check()
    return reader


def late(first: int, packets: list[StreamPacket] | None = None) -> bytes:
    times = SegmentTimes(Fraction(1, 25), first, (1,))
    after = [(TIMES, write_times(times))]
    if packets:
        after.append((PACKETS, write_packets(PacketTable.of(packets))))
    return with_side_data(tiny_file(), [(STREAM, write_stream(SOUND))], after)


def test_join_refuses_what_a_reader_would() -> None:
    """Two sound files whose times add up to more than a file can say."""
    far = late(2**53 - 2)
    for file in (far, late(0)):
        Reader(io.BytesIO(file)).check()
    joined(late(5), late(7))
    with pytest.raises(UsageError, match=r"file 2 would begin too late: a frame's time"):
        joined(late(2), far)
    with pytest.raises(UsageError, match=r"file 2 would begin too late: a packet's time"):
        joined(late(2), late(0, [StreamPacket(0, 2**53 - 1, 1, b"x")]))


def test_join_refuses_a_gap_that_it_would_make() -> None:
    """Packets that overlap the file before fall away, and what is left is too far apart."""
    packets = [StreamPacket(0, pts, 1, b"x") for pts in (-(2**53) + 2, 0, 2**53 - 2)]
    tick = 48000 // 25
    first = late(0, [StreamPacket(0, tick + 2, 1, b"y")])
    del packets[0]
    joined(first, late(0, [*packets[:1]]))
    with pytest.raises(UsageError, match=r"file 2 would begin too late"):
        joined(first, late(0, packets))


@pytest.mark.parametrize(("limit", "value"), [("MAX_INDEX_ENTRIES", 2), ("MAX_FRAMES", 5)])
def test_join_counts(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    assert joined(tiny_file(2), tiny_file(2)).video.frame_count == 4
    monkeypatch.setattr(joining, limit, value)
    written = io.BytesIO()
    with pytest.raises(UsageError, match=r"do not fit into one file"):
        joining.join([Reader(io.BytesIO(tiny_file(2)))] * 3, written)
    assert not written.getvalue()


# ---------------------------------------------------------------- tables of packets


def test_packet_tables_refuse_what_single_fields_do() -> None:
    def table(*numbers: int, data: bytes = b"") -> bytes:
        w = ByteWriter()
        w.u8(0)
        for number in numbers:
            w.uv(number)
        return w.getvalue() + data

    def read(payload: bytes) -> list[StreamPacket]:
        file = with_side_data(tiny_file(), [(STREAM, write_stream(SOUND))], [(PACKETS, payload)])
        reader = Reader(io.BytesIO(file))
        reader.check()
        return reader.packets(reader.index[0])

    most = 2**54 - 1
    assert read(table(1, most - 1, 2**32, 2, data=b"ab")) == [
        StreamPacket(0, most // 2, 2**32, b"ab")
    ]
    assert read(table(2, most, 0, 0, most - 1, 5, 1, data=b"a"))[1] == StreamPacket(0, -1, 5, b"a")
    for wrong in (
        table(1, most + 1, 0, 0),  # a gap of 54 bits
        table(1, 0, 2**32 + 1, 0),  # a long duration
        table(1, 0, 0, 1),  # no data
        table(1, 0, 0, 0, data=b"a"),  # too much
        table(2, most - 1, 0, 0, 4, 0, 0),  # a time beyond 2^53
        table(2, 0, 0, 2**63 - 1, 0, 0, 2**63 - 1),  # a sum that wraps around
        table(2, 0, 0, 0),  # a table that ends early
        table(9, 0, 0, 0),
        table(0),
        table(1, 0, 0) + b"\x80\x00",  # needless bytes
        table(1, 0, 0) + b"\x80" * 9 + b"\1",  # more than 63 bits
        b"\0\1" + b"\xff" * 30,
    ):
        with pytest.raises(FileError, match=r"pKTS|packet_count"):
            read(wrong)
        file = with_side_data(tiny_file(), [(STREAM, write_stream(SOUND))], [(PACKETS, wrong)])
        assert Reader(io.BytesIO(file), recover=True).damage


# ---------------------------------------------------------------- info


def test_info_tells_levels_apart_as_far_as_the_file_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any honest file all of them; `bytes` add up either way."""
    data = make_file(VIDEO, [random_segment(VIDEO, 2, model=TINY)])
    for allowed in (True, False):
        if not allowed:
            monkeypatch.setattr(info, "MAX_WORK", -info.MAX_WORK_PER_BYTE * len(data))
        facts = info.describe(Reader(io.BytesIO(data)))
        (row,) = facts["segments"]
        parts = row["chunk"] + row["header"] + row["embedding"] + sum(row["layers"].values())
        parts += row["coder"] + row["undivided"] + row["frame_crcs"]
        assert parts == pytest.approx(row["bytes"])
        assert bool(row["layers"]) == (row["undivided"] == 0) == allowed
        text = info.as_text({"file": "x.hnv", **facts})
        assert ("not told apart" in text) != allowed and ("range coder's end" in text) == allowed

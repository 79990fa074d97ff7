"""Files with chunks beside the frames (spec section 16), sound and faulty, for the conformance
vectors and the tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

from vectors import join, make_video, random_segment, split

from hnervcodec.bitstream import container, levels, segment
from hnervcodec.bitstream.ancillary import (
    AUDIO,
    Display,
    MasteringDisplay,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
)
from hnervcodec.bitstream.side_data import SideData

INFO = StreamInfo(AUDIO, "A_AAC", Fraction(1, 48000), "deu", 48000, 2, 16, 21333333, 0, b"\x11\x90")
MASTERING = MasteringDisplay((13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450), 10000000, 1)
TIMES = SegmentTimes(Fraction(1, 90000), -7, (3003, 3003, 1, 1 << 32, 3003))
SOUND = [StreamPacket(0, 1024 * n - 1024, 1024, bytes([n] * n)) for n in range(12)]
EXTRAS = SideData(
    5, Fraction(30000, 1001), Display(1, True, MASTERING, (1000, 400)), TIMES, [INFO], SOUND
)


def file_with(extras: SideData | None) -> bytes:
    """Two segments, 3 + 2 frames."""
    video = make_video()
    file = io.BytesIO()
    writer = container.Writer(file, video, levels.LEVELS[10], extras.minor if extras else 0)
    for chunk in extras.before_segments() if extras else ():
        writer.add([chunk])
    for first, count in ((0, 3), (3, 2)):
        part = random_segment(video, count, seed=count, first_frame=first)
        writer.segment(segment.write(part), count)
        for chunk in extras.of_segment(first, count) if extras else ():
            writer.add([chunk])
    writer.finish()
    return file.getvalue()


def payload_of(kind: bytes) -> bytes:
    return next(payload for other, payload in split(file_with(EXTRAS))[1] if other == kind)


TIME_BASE = b"\x01\0\0\0\x90\x5f\x01\0"
DISPLAY, TIME = payload_of(b"dISP"), payload_of(b"tIME")
STREAM, PACKETS = payload_of(b"sTRM"), payload_of(b"pKTS")
# name, what it proves, type of the chunk, payloads instead of the first one's
FAULTS = (
    ("display-rotation", "rotation 4", b"dISP", b"\x04" + DISPLAY[1:]),
    ("display-short", "dISP ends too early", b"dISP", DISPLAY[:-1]),
    ("display-long", "dISP has a byte too many", b"dISP", DISPLAY + b"\0"),
    ("display-twice", "a second dISP", b"dISP", DISPLAY, DISPLAY),
    ("times-base", "time_base_num is 0", b"tIME", bytes(4) + TIME[4:]),
    ("times-run-long", "a run beyond frame_count", b"tIME", TIME_BASE + b"\0\x04\x01"),
    ("times-run-empty", "a run of no frames", b"tIME", TIME_BASE + b"\0\0\x01\x03\x01"),
    ("times-duration", "a duration of 0", b"tIME", TIME_BASE + b"\0\x03\0"),
    ("times-short", "the runs stop before frame_count", b"tIME", TIME_BASE + b"\0\x02\x01"),
    ("times-long", "a byte after the runs", b"tIME", TIME_BASE + b"\0\x03\x01\0"),
    ("uv-needless", "a uv with a needless byte", b"tIME", TIME_BASE + b"\x80\0\x03\x01"),
    ("uv-endless", "a uv of more than 9 bytes", b"tIME", TIME_BASE + b"\xff" * 12),
    ("times-back", "a segment begins before the last one ends", b"tIME",
     TIME_BASE + b"\0\x03\x80\x80\x04"),
    ("times-bases", "segments with two time bases", b"tIME", b"\x02" + TIME[1:]),
    ("times-missing", "one segment has tIME and one has none", b"tIME"),
    ("times-twice", "a second tIME in a segment", b"tIME", TIME, TIME),
    ("stream-kind", "kind 3", b"sTRM", b"\x03" + STREAM[1:]),
    ("stream-codec", "a space in codec", b"sTRM", STREAM.replace(b"A_AAC", b"A AAC")),
    ("stream-private", "codec_private ends too early", b"sTRM", STREAM[:-1]),
    ("stream-short", "sTRM ends too early", b"sTRM", STREAM[:9]),
    ("stream-missing", "packets of a stream that no sTRM describes", b"sTRM"),
    ("packets-stream", "packets of a stream beyond the last", b"pKTS", b"\x01" + PACKETS[1:]),
    ("packets-none", "packet_count 0", b"pKTS", b"\0\0"),
    ("packets-many", "more packets than bytes", b"pKTS", b"\0\xff\xff\xff\x7f\0\0\0"),
    ("packets-large", "packets larger than the chunk", b"pKTS", b"\0\x01\0\0\x09abc"),
    ("packets-long", "a byte after the packets", b"pKTS", PACKETS + b"\0"),
    ("packets-twice", "a second pKTS of a stream in a segment", b"pKTS", PACKETS, PACKETS),
)  # fmt: skip


def more_faults() -> Iterator[tuple[str, str, bytes]]:
    """Name, what it proves, and data: chunks in other places, too many, or too large."""
    prefix, chunks = split(file_with(EXTRAS))
    kinds = [kind for kind, _ in chunks]
    segment_at, index_at = kinds.index(b"SEGM"), kinds.index(b"INDX")
    stream = (b"sTRM", STREAM)
    late = [*chunks[: segment_at + 1], stream, *chunks[segment_at + 1 :]]
    yield "stream-late", "sTRM after a SEGM", join(prefix, late)
    last = max(n for n, kind in enumerate(kinds) if kind == b"tIME")
    others = [*chunks[:last], *chunks[last + 1 : index_at + 1]]
    moved = [*others, chunks[last], *chunks[index_at + 1 :]]
    yield "times-late", "tIME after INDX", join(prefix, moved)
    # -2^53 - 1, so that the next segment begins later all the same
    huge = TIME_BASE + b"\x81" + b"\x80" * 6 + b"\x20" + b"\x03\x01"
    at = kinds.index(b"tIME")
    yield (
        "sv-large",
        "an sv whose uv is above 2^54",
        join(prefix, [*chunks[:at], (b"tIME", huge), *chunks[at + 1 :]]),
    )
    size = 2**20 + 1
    private = STREAM[:-6] + struct.pack("<I", size) + bytes(size)
    at = kinds.index(b"sTRM")
    long = [*chunks[:at], (b"sTRM", private), *chunks[at + 1 :]]
    yield "stream-private-long", "codec_private of 2^20 + 1 bytes", join(prefix, long)
    many = [*chunks[:at], *[stream] * 65, *chunks[at + 1 :]]
    yield "streams-65", "65 sTRM", join(prefix, many)


def faulty_file(name: str) -> bytes:
    """EXTRAS with other payloads for the first chunk of a type."""
    kind, *payloads = next(fault[2:] for fault in FAULTS if fault[0] == name)
    prefix, chunks = split(file_with(EXTRAS))
    at = next(n for n, chunk in enumerate(chunks) if chunk[0] == kind)
    changed = [(kind, payload) for payload in payloads]
    return join(prefix, [*chunks[:at], *changed, *chunks[at + 1 :]])

"""Ancillary chunks, which a decoder of frames may skip: how and when frames are shown, and their
sound and subtitles (spec section "Beside the frames"). Read and written in one order with the
spec's names.

    after VHDR          dISP, once          how the frames are to be shown
                        sTRM, per stream    sound or subtitles that go with them
    after each SEGM     tIME                when its frames are shown, if not at a constant rate
                        pKTS, per stream    what of sound and subtitles belongs to its time
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from hnervcodec.bitstream.fields import ByteReader, ByteWriter
from hnervcodec.errors import FileError

DISPLAY, STREAM, TIMES, PACKETS = b"dISP", b"sTRM", b"tIME", b"pKTS"  # chunk types
AUDIO, SUBTITLES = 1, 2  # kinds of stream
MAX_STREAMS = 64  # per file
MAX_CODEC_PRIVATE = 1 << 20  # bytes
MAX_TICKS = 1 << 32  # of a duration
MAX_PTS = 1 << 53  # magnitude, in ticks


class OutOfRange(ValueError):
    """A time that the format cannot say."""


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """SMPTE ST 2086, in the units of HEVC's SEI message."""

    primaries: tuple[int, ...]  # x, y of green, blue, red and white in 1/50000, 0..65535
    max_luminance: int  # in 1/10000 cd/m2
    min_luminance: int


@dataclass(frozen=True, slots=True)
class Display:
    """How decoded frames are to be shown."""

    rotation: int = 0  # quarter turns anticlockwise, 0..3
    mirrored: bool = False  # then left and right swapped
    mastering: MasteringDisplay | None = None
    content_light: tuple[int, int] | None = None  # MaxCLL, MaxFALL in cd/m2


def read_display(r: ByteReader) -> Display:
    """Parses the payload of a dISP chunk. FileError if it breaks a rule."""
    rotation = r.u8("rotation", 0, 3)
    mirrored = bool(r.u8("mirrored", 0, 1))
    mastering = content_light = None
    if r.u8("mastering_present", 0, 1):
        primaries = tuple(r.u16(f"primaries[{n}]") for n in range(8))
        mastering = MasteringDisplay(primaries, r.u32("max_luminance"), r.u32("min_luminance"))
    if r.u8("content_light_present", 0, 1):
        content_light = r.u16("max_cll"), r.u16("max_fall")
    r.end("dISP")
    return Display(rotation, mirrored, mastering, content_light)


def write_display(display: Display) -> bytes:
    """The payload of a dISP chunk: the inverse of `read_display`."""
    w = ByteWriter()
    w.u8(display.rotation)
    w.u8(display.mirrored)
    w.u8(display.mastering is not None)
    if display.mastering:
        for value in display.mastering.primaries:
            w.u16(value)
        w.u32(display.mastering.max_luminance)
        w.u32(display.mastering.min_luminance)
    w.u8(display.content_light is not None)
    for value in display.content_light or ():
        w.u16(value)
    return w.getvalue()


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """When the frames of one segment are shown, in ticks of `time_base` seconds: each begins where
    the one before ends."""

    time_base: Fraction
    first_pts: int  # tick at which the first frame is shown, -2**53..2**53
    durations: tuple[int, ...]  # ticks, 1..2**32, one per frame


def _read_time_base(r: ByteReader) -> Fraction:
    return Fraction(r.u32("time_base_num", 1), r.u32("time_base_den", 1))


def _write_time_base(w: ByteWriter, time_base: Fraction) -> None:
    w.u32(time_base.numerator)
    w.u32(time_base.denominator)


def read_times(r: ByteReader, frame_count: int) -> SegmentTimes:
    """Parses the payload of a tIME chunk of a segment of `frame_count` frames. FileError if it
    breaks a rule."""
    time_base = _read_time_base(r)
    first_pts = r.sv("first_pts")
    durations: list[int] = []
    while len(durations) < frame_count:
        run = r.uv("run", 1, frame_count - len(durations))
        durations += [r.uv("duration", 1, MAX_TICKS)] * run
    r.end("tIME")
    return SegmentTimes(time_base, first_pts, tuple(durations))


def write_times(times: SegmentTimes) -> bytes:
    """The payload of a tIME chunk, equal durations as runs: the inverse of `read_times`. OutOfRange
    if the first frame is shown too late."""
    if not -MAX_PTS <= times.first_pts < MAX_PTS:
        raise OutOfRange(f"a frame's time would be {times.first_pts} ticks")
    w = ByteWriter()
    _write_time_base(w, times.time_base)
    w.sv(times.first_pts)
    runs: list[list[int]] = []
    for duration in times.durations:
        if runs and runs[-1][1] == duration:
            runs[-1][0] += 1
        else:
            runs.append([1, duration])
    for run, duration in runs:
        w.uv(run)
        w.uv(duration)
    return w.getvalue()


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream of compressed sound or subtitles, in the words of a Matroska track (RFC 9559)."""

    kind: int  # AUDIO or SUBTITLES
    codec: str  # Matroska's CodecID, such as A_AAC
    time_base: Fraction  # seconds per tick of its packets
    language: str = "und"  # ISO 639-2
    sample_rate: int = 0  # per second; 0 for subtitles
    channels: int = 0  # 0 for subtitles
    bit_depth: int = 0  # 0: unknown
    codec_delay: int = 0  # nanoseconds that a decoder drops at the beginning
    seek_preroll: int = 0  # nanoseconds to decode before what is to be heard
    codec_private: bytes = b""


def _read_text(r: ByteReader, size: int, element: str) -> str:
    at = r.offset
    raw = bytes(r.raw(size, element))
    if not all(0x21 <= byte <= 0x7E for byte in raw):
        raise FileError(f"{raw!r} is not printable ASCII", element=element, offset=at)
    return raw.decode("ascii")


def read_stream(r: ByteReader) -> StreamInfo:
    """Parses the payload of a sTRM chunk. FileError if it breaks a rule."""
    kind = r.u8("kind", AUDIO, SUBTITLES)
    codec = _read_text(r, r.u8("codec_size", 1, 64), "codec")
    time_base = _read_time_base(r)
    language = _read_text(r, 3, "language")
    is_audio = kind == AUDIO
    sample_rate = r.u32("sample_rate", 1) if is_audio else 0
    channels = r.u8("channels", 1) if is_audio else 0
    bit_depth = r.u8("bit_depth") if is_audio else 0
    codec_delay, seek_preroll = r.uv("codec_delay"), r.uv("seek_preroll")
    private = bytes(r.raw(r.u32("private_size", 0, MAX_CODEC_PRIVATE), "codec_private"))
    r.end("sTRM")
    return StreamInfo(
        kind,
        codec,
        time_base,
        language,
        sample_rate,
        channels,
        bit_depth,
        codec_delay,
        seek_preroll,
        private,
    )


def write_stream(info: StreamInfo) -> bytes:
    """The payload of a sTRM chunk: the inverse of `read_stream`."""
    w = ByteWriter()
    w.u8(info.kind)
    w.u8(len(info.codec))
    w.raw(info.codec.encode("ascii"))
    _write_time_base(w, info.time_base)
    w.raw(info.language.encode("ascii"))
    if info.kind == AUDIO:
        w.u32(info.sample_rate)
        w.u8(info.channels)
        w.u8(info.bit_depth)
    w.uv(info.codec_delay)
    w.uv(info.seek_preroll)
    w.u32(len(info.codec_private))
    w.raw(info.codec_private)
    return w.getvalue()


@dataclass(frozen=True, slots=True)
class StreamPacket:
    """One compressed packet of sound or subtitles."""

    stream: int  # number of its `StreamInfo` in the file, from 0
    pts: int  # in the stream's time base
    duration: int  # 0: unknown
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class PacketTable:
    """Consecutive packets of one stream. Numbers stand in arrays, as a small file may hold a
    million packets of nothing; `StreamPacket`s are made one by one where they are needed."""

    stream: int  # number of its `StreamInfo` in the file, from 0
    pts: np.ndarray  # int64 [N], in the stream's time base, at most MAX_PTS in magnitude
    durations: np.ndarray  # int64 [N]; 0: unknown
    sizes: np.ndarray  # int64 [N]: bytes
    data: memoryview  # of all packets, one after the other

    @classmethod
    def of(cls, packets: Sequence[StreamPacket]) -> PacketTable:
        """Of at least one packet, all of one stream."""
        columns = [(packet.pts, packet.duration, len(packet.data)) for packet in packets]
        pts, durations, sizes = np.array(columns, np.int64).T
        data = memoryview(b"".join(packet.data for packet in packets))
        return cls(packets[0].stream, pts, durations, sizes, data)

    def __len__(self) -> int:
        return len(self.pts)

    def __iter__(self) -> Iterator[StreamPacket]:
        at = 0
        columns = (column.tolist() for column in (self.pts, self.durations, self.sizes))
        for pts, duration, size in zip(*columns, strict=True):
            yield StreamPacket(self.stream, pts, duration, bytes(self.data[at : at + size]))
            at += size

    @property
    def last(self) -> StreamPacket:
        """The last packet, without its data."""
        return StreamPacket(self.stream, int(self.pts[-1]), int(self.durations[-1]), b"")

    def where(self, wanted: np.ndarray) -> PacketTable:
        """The packets at which bool [N] `wanted` is true."""
        if wanted.all():
            return self
        ends = np.cumsum(self.sizes)[wanted].tolist()
        sizes = self.sizes[wanted]
        pieces = [self.data[e - n : e] for e, n in zip(ends, sizes.tolist(), strict=True) if n]
        data = memoryview(b"".join(pieces))
        return PacketTable(self.stream, self.pts[wanted], self.durations[wanted], sizes, data)

    def later(self, ticks: int) -> PacketTable:
        """The same packets, `ticks` later. OutOfRange if a time is then out of range."""
        farthest = max(abs(int(self.pts.min()) + ticks), abs(int(self.pts.max()) + ticks))
        if farthest > MAX_PTS:
            raise OutOfRange(f"a packet's time would be {farthest} ticks")
        return replace(self, pts=self.pts + ticks)

    @property
    def gaps(self) -> np.ndarray:
        """int64 [N]: by how much each packet begins after the end of the one before."""
        ends = self.pts + self.durations
        begins: np.ndarray = self.pts - np.concatenate([[0], ends[:-1]])
        return begins


def read_packets(r: ByteReader, streams: int) -> PacketTable:
    """Parses the payload of a pKTS chunk, which holds packets of one stream.

    streams: how many sTRM chunks the file has. FileError if the payload breaks a rule.
    """
    stream = r.u8("stream", 0, streams - 1)
    count = r.uv("packet_count", 1, r.remaining // 3)
    at = r.offset
    coded, durations, sizes = r.uvs(3 * count, "pKTS").reshape(count, 3).T
    gaps = np.where(coded % 2 == 0, coded >> 1, -(coded + 1 >> 1))
    # Were a sum to wrap around, one before it would be out of range already.
    pts = np.cumsum(gaps) + np.cumsum(durations) - durations
    limits = ("gap", coded, (1 << 54) - 1), ("duration", durations, MAX_TICKS)
    for element, values, limit in (*limits, ("gap", np.abs(pts), MAX_PTS)):
        if values.max() > limit:
            value = int(values[values > limit][0])
            raise FileError(f"{value} exceeds {limit}", element=f"pKTS.{element}", offset=at)
    # So many sizes that each fit into the bytes that are left do not overflow.
    total = int(sizes.sum()) if sizes.max() <= r.remaining else int(sizes.max())
    if total != r.remaining:
        raise FileError(
            f"packets of {total} bytes in {r.remaining}", element="pKTS.size", offset=r.offset
        )
    return PacketTable(stream, pts, durations, sizes, r.raw(total, "data"))


def write_packets(packets: PacketTable) -> bytes:
    """The payload of a pKTS chunk: the inverse of `read_packets`. OutOfRange if a gap between two
    packets is more than the format can say."""
    gaps = packets.gaps
    if max(-gaps.min(), gaps.max() + 1) > 1 << 53:
        raise OutOfRange(f"a gap between packets would be {np.abs(gaps).max()} ticks")
    w = ByteWriter()
    w.u8(packets.stream)
    w.uv(len(packets))
    coded = np.where(gaps >= 0, 2 * gaps, -2 * gaps - 1)
    w.uvs(np.stack([coded, packets.durations, packets.sizes], axis=1).ravel())
    w.raw(packets.data)
    return w.getvalue()


def coarsening_factor(duration: int, pts: int) -> int:
    """The smallest power of ten by which a source's ticks must be divided to fit into the format.

    duration: the largest, in ticks; pts: the largest magnitude of a time. A gap is the difference
    of two times, hence the quarter.
    """
    factor = 1
    while duration > MAX_TICKS * factor or pts >= MAX_PTS // 4 * factor:
        factor *= 10
    return factor


def divide_rounded(ticks: int, factor: int) -> int:
    """ticks / factor to the nearest integer, halves up; floats do not hold 53 bits and a half."""
    return (ticks + factor // 2) // factor


def shift_packets(
    packets: Iterable[StreamPacket],
    infos: list[StreamInfo],
    shift: Fraction,
    begin: Fraction | None = None,
    end: Fraction | None = None,
) -> list[StreamPacket]:
    """The packets that start at begin <= time < end, made to start `shift` seconds earlier.

    infos: the streams, for their time bases. begin, end: seconds, before the shift; None: no bound.
    """
    shifted = []
    limits = [_tick_limits(info.time_base, begin, end) for info in infos]
    ticks = [round(shift / info.time_base) for info in infos]
    for packet in packets:
        first, stop = limits[packet.stream]
        if (first is None or packet.pts >= first) and (stop is None or packet.pts < stop):
            shifted.append(replace(packet, pts=packet.pts - ticks[packet.stream]))
    return shifted


def _tick_limits(
    time_base: Fraction, begin: Fraction | None, end: Fraction | None
) -> tuple[int | None, int | None]:
    """The first tick at or after `begin` seconds, and at or after `end`."""
    first, stop = (None if at is None else math.ceil(at / time_base) for at in (begin, end))
    return first, stop


def in_time_order(
    packets: Iterable[StreamPacket], infos: Sequence[StreamInfo]
) -> list[StreamPacket]:
    """Packets of several streams by the time at which they begin; equal times in the order
    given."""
    common = math.lcm(*(info.time_base.denominator for info in infos))
    units = [int(info.time_base * common) for info in infos]
    return sorted(packets, key=lambda packet: packet.pts * units[packet.stream])

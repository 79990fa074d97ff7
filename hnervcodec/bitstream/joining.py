"""`.hnv` files put one after the other into one file: segments are copied, nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

from hnervcodec.bitstream import ancillary, segment
from hnervcodec.bitstream.ancillary import StreamPacket, shift_packets
from hnervcodec.bitstream.container import IndexEntry, Writer
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.side_data import Chunks, SideData
from hnervcodec.bitstream.timing import ConstantTimes
from hnervcodec.errors import UsageError


def join(readers: Sequence[Reader], file: BinaryIO) -> tuple[int, int]:
    """Writes the segments of all `readers` into one file, with the sound and the times that go with
    them; returns its frames and bytes. Each video begins where the one before ends.

    UsageError if they differ in anything but frames: size, pixel format, colour, frame rate,
    rotation, streams of sound, or whether they have times of their own.
    """
    for reader in readers[1:]:
        _check_alike(readers[0], reader)
    first = readers[0]
    level = max((reader.level for reader in readers), key=lambda level: level.number)
    minor = max(reader.prefix.minor for reader in readers)
    writer = Writer(file, replace(first.video, frame_count=0), level, minor)
    side_data = SideData(0, first.video.frame_rate, first.display, None, first.streams)
    writer.add(side_data.before_segments())
    begin, last = Fraction(0), dict[int, StreamPacket]()  # in seconds; of the files before
    for n, reader in enumerate(readers):
        times = reader.frame_times
        begin -= min(times.begin, Fraction(0)) if n else 0
        end = times.end if n + 1 < len(readers) else None
        written = dict(last)
        for entry in reader.index:
            payload = segment.with_first_frame(reader.segment_payload(entry), writer.frame_count)
            writer.segment(payload, entry.frame_count)
            packets = _packets(reader, entry, begin, end, last)
            written |= {packet.stream: packet for packet in packets}
            writer.add(_ancillary(reader, entry, begin, packets))
        begin, last = begin + times.end, written
    return writer.frame_count, writer.finish()


def _check_alike(one: Reader, other: Reader) -> None:
    if replace(one.video, frame_count=0) != replace(other.video, frame_count=0):
        raise UsageError("the files differ in size, pixel format, colour or frame rate")
    if (one.display, one.streams) != (other.display, other.streams):
        raise UsageError("the files differ in rotation, light levels or streams of sound")
    constant = [isinstance(reader.frame_times, ConstantTimes) for reader in (one, other)]
    bases = [reader.frame_times.time_base for reader in (one, other)]
    if constant[0] != constant[1] or bases[0] != bases[1]:
        raise UsageError("the files differ in their time base, or only some have a constant rate")


def _packets(
    reader: Reader,
    entry: IndexEntry,
    begin: Fraction,
    end: Fraction | None,
    last: dict[int, StreamPacket],
) -> list[StreamPacket]:
    """The packets of a segment, `begin` seconds later, without those that overlap a neighbouring
    file.

    end: seconds of the reader's own time at which the next file begins; packets from there on are
    left out. last: of each stream the last packet of the files before; packets that begin before
    its end are left out. Of consecutive shares of one film all packets stay.
    """
    streams, own = reader.streams, reader.packets(entry)
    packets = []
    for packet, later in zip(own, shift_packets(own, streams, -begin), strict=True):
        base = streams[packet.stream].time_base
        if end is not None and packet.pts >= end / base + Fraction(1, 2):  # times are rounded
            continue
        before = last.get(packet.stream)
        if before is not None:
            # What begins before its own video is there for a decoder that has heard nothing.
            length = max(before.duration, 1) if packet.pts < 0 else 1
            if later.pts < before.pts + length:
                continue
        packets.append(later)
    return packets


def _ancillary(
    reader: Reader, entry: IndexEntry, begin: Fraction, packets: list[StreamPacket]
) -> Chunks:
    """The ancillary chunks that follow a segment which is shown `begin` seconds later."""
    times = reader.times(entry)
    if times is not None:
        later = times.first_pts + round(begin / times.time_base)
        yield ancillary.TIMES, ancillary.write_times(replace(times, first_pts=later))
    for part in _by_stream(packets):
        yield ancillary.PACKETS, ancillary.write_packets(part)


def _by_stream(packets: list[StreamPacket]) -> Iterator[list[StreamPacket]]:
    for stream in dict.fromkeys(packet.stream for packet in packets):
        yield [packet for packet in packets if packet.stream == stream]

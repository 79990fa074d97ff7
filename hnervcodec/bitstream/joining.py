"""`.hnv` files put one after the other into one file: segments are copied, nothing is decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from hnervcodec.bitstream import ancillary, segment
from hnervcodec.bitstream.ancillary import OutOfRange, PacketTable, StreamPacket
from hnervcodec.bitstream.container import MAX_FRAMES, MAX_INDEX_ENTRIES, IndexEntry, Writer
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.side_data import Chunks, SideData
from hnervcodec.bitstream.timing import ConstantTimes
from hnervcodec.errors import UsageError


def join(readers: Sequence[Reader], file: BinaryIO) -> tuple[int, int]:
    """Writes the segments of all `readers` into one file, with the sound and the times that go with
    them; returns its frames and bytes. Each video begins where the one before ends.

    UsageError, before anything is written, if they differ in anything but frames (size, pixel
    format, colour, frame rate, rotation, streams of sound, or whether they have times of their
    own), or if one file cannot hold as much.
    """
    for reader in readers[1:]:
        _check_alike(readers[0], reader)
    _check_counts(readers)
    for _ in _side_data(readers):  # which checks it
        pass
    first = readers[0]
    level = max((reader.level for reader in readers), key=lambda level: level.number)
    minor = max(reader.prefix.minor for reader in readers)
    writer = Writer(file, replace(first.video, frame_count=0), level, minor)
    side_data = SideData(0, first.video.frame_rate, first.display, None, first.streams)
    writer.add(side_data.before_segments())
    for reader, entry, chunks in _side_data(readers):
        payload = segment.with_first_frame(reader.segment_payload(entry), writer.frame_count)
        writer.segment(payload, entry.frame_count)
        writer.add(chunks)
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


def _check_counts(readers: Sequence[Reader]) -> None:
    segments = sum(len(reader.index) for reader in readers)
    if segments > MAX_INDEX_ENTRIES:
        raise UsageError(f"{segments} segments do not fit into one file: {MAX_INDEX_ENTRIES} do")
    frames = sum(reader.video.frame_count for reader in readers)
    if frames > MAX_FRAMES:
        raise UsageError(f"{frames} frames do not fit into one file: {MAX_FRAMES} do")


def _side_data(
    readers: Sequence[Reader],
) -> Iterator[tuple[Reader, IndexEntry, list[tuple[bytes, bytes]]]]:
    """Every segment in the order of the joined file, with the ancillary chunks that follow it.
    UsageError where its times are beyond what a file can say."""
    begin, last = Fraction(0), dict[int, StreamPacket]()  # in seconds; of the files before
    for n, reader in enumerate(readers):
        times = reader.frame_times
        begin -= min(times.begin, Fraction(0)) if n else 0
        end = times.end if n + 1 < len(readers) else None
        written = dict(last)
        for entry in reader.index:
            try:
                tables = list(_packets(reader, entry, begin, end, last))
                chunks = list(_ancillary(reader, entry, begin, tables))
            except OutOfRange as error:
                raise UsageError(f"file {n + 1} would begin too late: {error}") from error
            for table in tables:
                written[table.stream] = table.last
            yield reader, entry, chunks
        begin, last = begin + times.end, written


def _packets(
    reader: Reader,
    entry: IndexEntry,
    begin: Fraction,
    end: Fraction | None,
    last: dict[int, StreamPacket],
) -> Iterator[PacketTable]:
    """The packets of a segment, `begin` seconds later, without those that overlap a neighbouring
    file.

    end: seconds of the reader's own time at which the next file begins; packets from there on are
    left out. last: of each stream the last packet of the files before; packets that begin before
    its end are left out. Of consecutive shares of one film all packets stay.
    """
    for table in reader.packet_tables(entry):
        base = reader.streams[table.stream].time_base
        later = table.later(round(begin / base))
        inside = np.ones(len(table), bool)
        if end is not None:  # half a tick more, as times are rounded
            inside &= table.pts < min(math.ceil(end / base + Fraction(1, 2)), 1 << 62)
        before = last.get(table.stream)
        if before is not None:
            # What begins before its own video is there for a decoder that has heard nothing.
            length = np.where(table.pts < 0, max(before.duration, 1), 1)
            inside &= later.pts >= before.pts + length
        if inside.any():
            yield later.where(inside)


def _ancillary(
    reader: Reader, entry: IndexEntry, begin: Fraction, tables: list[PacketTable]
) -> Chunks:
    """The ancillary chunks that follow a segment which is shown `begin` seconds later."""
    times = reader.times(entry)
    if times is not None:
        later = times.first_pts + round(begin / times.time_base)
        yield ancillary.TIMES, ancillary.write_times(replace(times, first_pts=later))
    for table in tables:
        yield ancillary.PACKETS, ancillary.write_packets(table)

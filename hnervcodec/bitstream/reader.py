"""Opening a `.hnv` file: the header, the index, and what to do when it is cut or damaged. Works
without torch."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain, pairwise
from typing import BinaryIO

from hnervcodec.bitstream import ancillary, headers, levels
from hnervcodec.bitstream.ancillary import (
    Display,
    PacketTable,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
)
from hnervcodec.bitstream.container import (
    CHUNK_HEADER,
    CHUNK_HEADER_SIZE,
    CHUNK_OVERHEAD,
    END_SIZE,
    INDEX_ENTRY,
    MAX_INDEX_ENTRIES,
    PREDECESSORS,
    PREFIX_SIZE,
    VIDEO_HEADER_SIZE,
    Chunk,
    IndexEntry,
    read_prefix,
)
from hnervcodec.bitstream.fields import ByteReader, crc32
from hnervcodec.bitstream.timing import ConstantTimes, FrameTimes, VariableTimes
from hnervcodec.errors import FileError, LimitError, TruncatedError, UnsupportedError, UsageError


class Reader:
    """Opens a `.hnv` file through a seekable binary `file`.

    Attributes: `prefix`, `level`, `video` (its `frame_count` completed from the index), `index`,
    `size` (bytes) and `damage`: what `recover` found damaged.

    With `recover`, a file whose index or end is missing or damaged opens all the same: intact
    segments are found by walking the chunks. Of what goes with the frames, each damaged chunk is
    left out: one of sound costs the sound of its segment. `hnv decode --recover` uses it.
    With `max_level`, files of higher levels are refused: it bounds the memory and the time that an
    untrusted file can take.
    """

    def __init__(self, file: BinaryIO, *, recover: bool = False, max_level: int | None = None):
        self._file, self._recover = file, recover
        self.size = file.seek(0, io.SEEK_END)
        self.prefix = read_prefix(self._read(0, min(PREFIX_SIZE, self.size)))
        self.level = self.prefix.level
        if max_level is not None and self.level.number > max_level:
            raise LimitError(f"the file is of level {self.level.number}, above {max_level}")
        header = self._chunk_at(PREFIX_SIZE)
        if header.kind != b"VHDR" or header.serial != 0:
            raise FileError("the first chunk is not VHDR", element="type", offset=PREFIX_SIZE)
        if header.length != VIDEO_HEADER_SIZE:
            raise FileError(
                f"length {header.length} instead of {VIDEO_HEADER_SIZE}",
                element="VHDR.length",
                offset=PREFIX_SIZE + 4,
            )
        self.video = headers.read_video_header(
            ByteReader(self.payload(header), header.payload_offset)
        )
        levels.check_frame(self.level, self.video.width, self.video.height)
        self._body = header.end
        self._stop = self.size  # where the last segment's ancillary chunks end
        self.damage: list[str] = []
        self._losses: set[str] = set()
        try:
            self.index = self._read_index()
        except FileError as error:
            if not recover:
                raise
            self.damage.append(str(error))
            self.index = self._find_segments()
        count = sum(entry.frame_count for entry in self.index)
        if self.video.frame_count not in (0, count) and not self.damage:
            raise FileError(
                f"{self.video.frame_count} frames announced, {count} in the index",
                element="frame_count",
            )
        if recover:
            self._drop_damaged_segments()
            # A cut file's frame count is believed as far as its size makes it plausible.
            count = self.index[-1].frames.stop
            if self.video.frame_count <= 16 * self.size:
                count = max(count, self.video.frame_count)
        self.video = replace(self.video, frame_count=count)
        if recover:
            self._read_beside()

    # Chunks

    def _read(self, offset: int, size: int) -> bytes:
        if getattr(self._file, "closed", False):
            raise UsageError("the .hnv file has been closed")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise TruncatedError("file ends too early", offset=offset + len(data))
        return data

    def _chunk_at(self, offset: int) -> Chunk:
        """The header at `offset`, checked against its CRC and the file's size."""
        if offset + CHUNK_OVERHEAD > self.size:
            raise TruncatedError("file ends inside a chunk header", offset=self.size)
        data = self._read(offset, CHUNK_HEADER_SIZE)
        kind, length, serial, header_crc = CHUNK_HEADER.unpack(data)
        if crc32(data[:12]) != header_crc:
            raise FileError("checksum mismatch", element="header_crc", offset=offset + 12)
        if not (kind.isalpha() and kind.isascii()):
            raise FileError(f"chunk type {kind!r} is not four letters", offset=offset)
        chunk = Chunk(kind, length, serial, offset)
        if chunk.critical and kind not in PREDECESSORS:
            raise UnsupportedError(f"unknown critical chunk {kind.decode()}")
        if chunk.end > self.size:
            raise TruncatedError(
                f"the {kind.decode()} chunk needs {chunk.end - self.size} bytes more than the "
                "file has",
                offset=self.size,
            )
        return chunk

    def payload(self, chunk: Chunk) -> bytes:
        """The chunk's payload, checked against its CRC."""
        data = self._read(chunk.payload_offset, chunk.length + 4)
        payload, crc = data[:-4], int.from_bytes(data[-4:], "little")
        if crc32(payload) != crc:
            raise FileError(
                "checksum mismatch",
                element=f"{chunk.kind.decode()}.payload_crc",
                offset=chunk.end - 4,
            )
        return payload

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk in file order: VHDR, SEGM ..., INDX, HEND and nothing else, but ancillary
        chunks between them."""
        offset, serial, previous = PREFIX_SIZE, 0, b""
        while True:
            chunk = self._chunk_at(offset)
            if chunk.serial != serial:
                raise FileError(
                    f"serial {chunk.serial}, expected {serial}", element="serial", offset=offset + 8
                )
            if chunk.critical:
                self._check_order(previous, chunk)
                previous = chunk.kind
            yield chunk
            offset, serial = chunk.end, serial + 1
            if chunk.kind == b"HEND":
                break
        if offset != self.size:
            raise FileError(f"{self.size - offset} bytes follow the end chunk", offset=offset)

    @staticmethod
    def _check_order(previous: bytes, chunk: Chunk) -> None:
        if previous not in PREDECESSORS[chunk.kind]:
            after = previous.decode() or "the prefix"
            raise FileError(
                f"{chunk.kind.decode()} must not follow {after}",
                element="type",
                offset=chunk.offset,
            )

    def check(self) -> list[Chunk]:
        """Walks the whole file and checks what random access leaves unread: every payload, the
        order of the chunks, and that the index lists all segments. Returns the chunks."""
        chunks = list(self.chunks())
        for chunk in chunks:
            self.payload(chunk)
        listed = [entry.offset for entry in self.index]
        if listed != [chunk.offset for chunk in chunks if chunk.kind == b"SEGM"]:
            raise FileError("the index does not list the segments of the file", element="INDX")
        self._check_ancillary(chunks)
        return chunks

    # Beside the frames

    def _ancillary(self, offset: int, stop: int) -> list[Chunk]:
        """The ancillary chunks from `offset` to the next segment, or the index, at `stop`."""
        found = []
        while offset < stop:
            try:
                chunk = self._chunk_at(offset)
            except FileError as error:
                self._lose(error)
                break
            if chunk.critical:
                break
            found.append(chunk)
            offset = chunk.end
        return found

    def _ancillary_of(self, entry: IndexEntry) -> list[Chunk]:
        """The ancillary chunks of a segment; nothing is read where there are none."""
        at = bisect_right(self.index, entry.offset, key=lambda other: other.offset)
        stop = self.index[at].offset if at < len(self.index) else self._stop
        return self._ancillary(entry.offset + CHUNK_OVERHEAD + entry.length, stop)

    def _reader_of(self, chunk: Chunk) -> ByteReader:
        return ByteReader(self.payload(chunk), chunk.payload_offset)

    def _once(self, chunks: list[Chunk], kind: bytes) -> Chunk | None:
        found = [chunk for chunk in chunks if chunk.kind == kind]
        if len(found) > 1:
            raise FileError(
                f"more than one {kind.decode()}", element="type", offset=found[1].offset
            )
        return found[0] if found else None

    @cached_property
    def _before_segments(self) -> list[Chunk]:
        return self._ancillary(self._body, self.index[0].offset)

    @cached_property
    def display(self) -> Display:
        """How frames are to be shown."""
        chunk = self._once(self._before_segments, ancillary.DISPLAY)
        return ancillary.read_display(self._reader_of(chunk)) if chunk else Display()

    @cached_property
    def streams(self) -> list[StreamInfo]:
        """Sound and subtitles."""
        found = [chunk for chunk in self._before_segments if chunk.kind == ancillary.STREAM]
        if len(found) > ancillary.MAX_STREAMS:
            raise FileError(f"{len(found)} streams", element="sTRM", offset=found[0].offset)
        return [ancillary.read_stream(self._reader_of(chunk)) for chunk in found]

    def times(self, entry: IndexEntry) -> SegmentTimes | None:
        """When a segment's frames are shown; None: at the constant frame rate."""
        chunk = self._once(self._ancillary_of(entry), ancillary.TIMES)
        if chunk is None:
            return None
        return ancillary.read_times(self._reader_of(chunk), entry.frame_count)

    @cached_property
    def frame_times(self) -> FrameTimes:
        """When all frames are shown; if `recover` found a gap, at the constant rate, else as far as
        the last frame that is there."""
        if any(a.frames.stop != b.first_frame for a, b in pairwise(self.index)):
            return self._constant
        parts = [self.times(entry) for entry in self.index if not self.index[0].first_frame]
        known = [part for part in parts if part is not None]
        if known and len(known) < len(parts):
            raise FileError("some segments have times and some have none", element="tIME")
        return VariableTimes.of(known) if known else self._constant

    @property
    def _constant(self) -> ConstantTimes:
        return ConstantTimes(self.video.frame_rate, self.video.frame_count)

    def packets(self, entry: IndexEntry) -> list[StreamPacket]:
        """The sound and the subtitles that a segment holds, one stream after the other."""
        return list(chain.from_iterable(self.packet_tables(entry)))

    def packet_tables(self, entry: IndexEntry) -> list[PacketTable]:
        """The same, a table for each stream."""
        tables: list[PacketTable] = []
        seen = set()
        for chunk in self._ancillary_of(entry):
            if chunk.kind != ancillary.PACKETS:
                continue
            try:
                part = ancillary.read_packets(self._reader_of(chunk), len(self.streams))
                if part.stream in seen:
                    raise FileError(
                        f"packets of stream {part.stream} twice",
                        element="pKTS.stream",
                        offset=chunk.payload_offset,
                    )
            except FileError as error:
                self._lose(error)
                continue
            seen.add(part.stream)
            tables.append(part)
        return tables

    def _check_ancillary(self, chunks: list[Chunk]) -> None:
        """Everything that is known stands where it belongs and can be read."""
        before_segments = (ancillary.DISPLAY, ancillary.STREAM)
        in_segments = (ancillary.TIMES, ancillary.PACKETS)
        previous = b""
        for chunk in chunks:
            if chunk.critical:
                previous = chunk.kind
            wrong = before_segments if previous != b"VHDR" else in_segments
            if chunk.kind in wrong or (chunk.kind in in_segments and previous != b"SEGM"):
                raise FileError(
                    f"{chunk.kind.decode()} must not follow {previous.decode()}",
                    element="type",
                    offset=chunk.offset,
                )
        self._read_beside()

    def _read_beside(self) -> None:
        """Everything; with `recover`, what cannot be read is as if it were not there."""
        without = {"display": Display(), "streams": [], "frame_times": self._constant}
        for name, nothing in without.items():
            try:
                getattr(self, name)
            except FileError as error:
                self._lose(error)
                setattr(self, name, nothing)
        for entry in self.index:
            self.packet_tables(entry)

    def _lose(self, error: FileError) -> None:
        """With `recover` a damaged ancillary chunk is noted, once, and done without."""
        if not self._recover:
            raise error
        if str(error) not in self._losses:
            self._losses.add(str(error))
            self.damage.append(str(error))

    # Index

    def _read_index(self) -> list[IndexEntry]:
        """Index and end chunk from the back of the file."""
        try:
            end = self._chunk_at(max(self.size - END_SIZE, self._body))
            if end.kind != b"HEND" or end.end != self.size:
                raise FileError("no end chunk")
        except FileError as error:
            # Walk from the front: either the walk finds what is wrong, or bytes follow the end.
            for _ in self.chunks():
                pass
            raise FileError("the end chunk is missing", offset=self.size) from error
        r = ByteReader(self.payload(end), end.payload_offset)
        index_offset, frame_count = r.u64("index_offset"), r.u32("frame_count", 1)
        r.end("HEND")
        if not self._body <= index_offset <= end.offset - CHUNK_OVERHEAD:
            raise FileError(
                f"index offset {index_offset} lies outside the file",
                element="HEND.index_offset",
                offset=end.payload_offset,
            )
        self._stop = index_offset
        chunk = self._chunk_at(index_offset)
        if chunk.kind != b"INDX":
            raise FileError("no INDX chunk here", element="HEND.index_offset", offset=index_offset)
        r = ByteReader(self.payload(chunk), chunk.payload_offset)
        entries: list[IndexEntry] = []
        position, frame = self._body, 0
        count = r.u32("segment_count", 1, MAX_INDEX_ENTRIES)
        first = r.offset
        rows = r.raw(count * INDEX_ENTRY.size, "INDX")
        r.end("INDX")
        for n, row in enumerate(INDEX_ENTRY.iter_unpack(rows)):
            at = first + n * INDEX_ENTRY.size
            entry = IndexEntry(*row)
            if entry.frame_count < 1:
                raise FileError("a segment of no frames", element="INDX.frame_count", offset=at)
            if entry.first_frame != frame:
                raise FileError(
                    f"starts at frame {entry.first_frame}, expected {frame}",
                    element="INDX.first_frame",
                    offset=at,
                )
            levels.check_frames(self.level, entry.frame_count)
            if entry.frame_count > entry.length // 4:
                raise FileError(
                    f"{entry.frame_count} frames in a segment of {entry.length} bytes",
                    element="INDX.frame_count",
                    offset=at,
                )
            stop = entry.offset + CHUNK_OVERHEAD + entry.length
            if entry.offset < position or stop > end.offset:
                raise FileError("segments overlap or leave the file", element="INDX", offset=at)
            position, frame = stop, entry.frames.stop
            entries.append(entry)
        if frame != frame_count:
            raise FileError(
                f"{frame_count} frames announced, {frame} indexed",
                element="HEND.frame_count",
                offset=end.payload_offset + 8,
            )
        return entries

    def _find_segments(self) -> list[IndexEntry]:
        """Intact segments in file order, found without the index."""
        entries: list[IndexEntry] = []
        offset = self._body
        while offset + CHUNK_OVERHEAD <= self.size:
            try:
                chunk = self._chunk_at(offset)
            except FileError as error:
                self.damage.append(str(error))
                break
            offset = chunk.end
            if chunk.kind != b"SEGM":
                continue
            try:
                r = ByteReader(self.payload(chunk), chunk.payload_offset)
                first_frame, frame_count, _ = headers.read_segment_start(r)
            except FileError as error:
                self.damage.append(str(error))
                continue
            if frame_count > min(self.level.frames, chunk.length // 4):
                self.damage.append(f"the segment at byte {chunk.offset} lies about its frames")
            elif not entries or first_frame >= entries[-1].frames.stop:
                entries.append(IndexEntry(chunk.offset, chunk.length, first_frame, frame_count))
        if not entries:
            raise FileError("no intact segment: " + self.damage[0])
        return entries

    def _drop_damaged_segments(self) -> None:
        intact = []
        for entry in self.index:
            try:
                self.segment_payload(entry)
                intact.append(entry)
            except FileError as error:
                self.damage.append(str(error))
        if not intact:
            raise FileError("no intact segment: " + self.damage[0])
        self.index = intact

    def segment_payload(self, entry: IndexEntry) -> bytes:
        """The payload of the segment that `entry` points to, checked against its CRCs."""
        chunk = self._chunk_at(entry.offset)
        if chunk.kind != b"SEGM" or chunk.length != entry.length:
            raise FileError("no such SEGM chunk", element="INDX.offset", offset=entry.offset)
        payload = self.payload(chunk)
        r = ByteReader(payload, chunk.payload_offset)
        frames = r.u32("first_frame"), r.u16("frame_count")
        if frames != (entry.first_frame, entry.frame_count):
            raise FileError(
                "segment and index disagree about its frames",
                element="first_frame",
                offset=chunk.payload_offset,
            )
        return payload

    def stated_checksum(self, entry: IndexEntry) -> bytes:
        """The payload's CRC-32 as the file states it, 4 bytes, which nobody has checked."""
        return self._read(entry.offset + CHUNK_HEADER_SIZE + entry.length, 4)

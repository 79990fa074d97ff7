"""The `.hnv` container (spec section "Container"): chunks, and writing them.

    signature and versions | VHDR dISP sTRM ... | SEGM tIME pKTS ... | SEGM ... | INDX | HEND

Written as a stream; read through seeks, so that one frame costs the header, the index and one
segment. Works without torch.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

from hnervcodec.bitstream import headers, levels
from hnervcodec.bitstream.fields import ByteReader, ByteWriter, crc32
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import FileError, TruncatedError, UnsupportedError

SIGNATURE = b"\x89HNV\r\n\x1a\n"
MAJOR, MINOR = 1, 1
PREFIX_SIZE = 24
CHUNK_HEADER = struct.Struct("<4sIII")  # type, length, serial, header_crc
CHUNK_HEADER_SIZE = CHUNK_HEADER.size
CHUNK_OVERHEAD = CHUNK_HEADER_SIZE + 4
END_PAYLOAD_SIZE = 12
END_SIZE = CHUNK_OVERHEAD + END_PAYLOAD_SIZE
VIDEO_HEADER_SIZE = 28
MAX_INDEX_ENTRIES = 1 << 20
MAX_FRAMES = (1 << 32) - 1  # of a file
INDEX_ENTRY = struct.Struct("<QIIH")  # offset, length, first_frame, frame_count
# Which critical chunk may come before which.
PREDECESSORS = {
    b"VHDR": (b"",),
    b"SEGM": (b"VHDR", b"SEGM"),
    b"INDX": (b"SEGM",),
    b"HEND": (b"INDX",),
}


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first 24 bytes."""

    major: int
    minor: int
    profile: int
    level: levels.Level


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk's place in the file."""

    kind: bytes
    length: int  # of the payload
    serial: int
    offset: int  # of the chunk's header

    @property
    def critical(self) -> bool:
        """An upper-case first letter: a decoder that does not know it must stop."""
        return self.kind[:1].isupper()

    @property
    def payload_offset(self) -> int:
        """Where the payload begins in the file."""
        return self.offset + CHUNK_HEADER_SIZE

    @property
    def end(self) -> int:
        """Where the next chunk begins in the file."""
        return self.payload_offset + self.length + 4


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """Where a segment lies and which frames it holds."""

    offset: int  # of the SEGM chunk's header
    length: int  # of its payload
    first_frame: int
    frame_count: int

    @property
    def frames(self) -> range:
        """Numbers of the segment's frames in the video."""
        return range(self.first_frame, self.first_frame + self.frame_count)


# ---------------------------------------------------------------- writing


class Writer:
    """Writes one file: header, then segments in order, then `finish`.

    On a seekable `file` the frame count in the header is filled in at the end; on a pipe it stays
    0 and readers take it from the index.
    """

    def __init__(self, file: BinaryIO, video: VideoHeader, level: levels.Level, minor: int = 0):
        """minor: version of the format; 1 if ancillary chunks follow."""
        self._file, self._video = file, video
        self._position = self._serial = 0
        self._index: list[IndexEntry] = []
        self.frame_count = 0  # in the segments written so far
        w = ByteWriter()
        w.raw(SIGNATURE)
        for value in (MAJOR, minor, levels.MAIN, level.number):
            w.u8(value)
        w.u32(0)  # incompatible flags
        w.u32(0)  # compatible flags
        w.u32(crc32(w.getvalue()))
        self._write(w.getvalue())
        self._chunk(b"VHDR", self._video_payload())

    def _video_payload(self) -> bytes:
        w = ByteWriter()
        headers.write_video_header(w, self._video)
        return w.getvalue()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._position += len(data)

    def _chunk(self, kind: bytes, payload: bytes) -> None:
        w = ByteWriter()
        w.raw(kind)
        w.u32(len(payload))
        w.u32(self._serial)
        w.u32(crc32(w.getvalue()))
        w.raw(payload)
        w.u32(crc32(payload))
        self._serial += 1
        self._write(w.getvalue())

    def segment(self, payload: bytes, frame_count: int) -> None:
        """Appends a SEGM chunk that holds the next `frame_count` frames."""
        entry = IndexEntry(self._position, len(payload), self.frame_count, frame_count)
        self._chunk(b"SEGM", payload)
        self._index.append(entry)
        self.frame_count += frame_count

    def add(self, chunks: Iterable[tuple[bytes, bytes]]) -> int:
        """Appends ancillary chunks (type, payload) and returns how many bytes they take.

        Chunks that go with the video must come before the first segment, chunks that go with a
        segment right after it.
        """
        start = self._position
        for kind, payload in chunks:
            self._chunk(kind, payload)
        return self._position - start

    def finish(self) -> int:
        """Writes the index and the end; returns the file's size in bytes."""
        index_offset = self._position
        w = ByteWriter()
        w.u32(len(self._index))
        for entry in self._index:
            w.u64(entry.offset)
            w.u32(entry.length)
            w.u32(entry.first_frame)
            w.u16(entry.frame_count)
        self._chunk(b"INDX", w.getvalue())
        w = ByteWriter()
        w.u64(index_offset)
        w.u32(self.frame_count)
        self._chunk(b"HEND", w.getvalue())
        size = self._position
        if self._file.seekable():
            self._video = replace(self._video, frame_count=self.frame_count)
            self._file.seek(PREFIX_SIZE)
            self._serial = 0
            self._chunk(b"VHDR", self._video_payload())
            self._file.seek(0, io.SEEK_END)
        self._file.flush()
        return size


def overhead(segments: int) -> int:
    """Bytes of a finished file of so many segments that are neither their payloads nor ancillary
    chunks."""
    index = 4 + 18 * segments
    chunks = VIDEO_HEADER_SIZE + index + END_PAYLOAD_SIZE + CHUNK_OVERHEAD * (3 + segments)
    return PREFIX_SIZE + chunks


# ---------------------------------------------------------------- reading


def read_prefix(data: bytes) -> Prefix:
    """Parses the first 24 bytes of a file.

    FileError if they are no prefix, UnsupportedError if they ask for what this version does not
    know.
    """
    if not data.startswith(SIGNATURE):
        if not data:
            raise FileError("empty file")
        if SIGNATURE.startswith(data[: len(SIGNATURE)]):
            raise TruncatedError("file ends inside its signature", offset=len(data))
        raise FileError(f"not a .hnv file: it starts with {bytes(data[:8])!r}")
    r = ByteReader(data)
    r.raw(len(SIGNATURE), "signature")
    major, minor, profile, level = (
        r.u8(name) for name in ("major_version", "minor_version", "profile", "level")
    )
    incompatible = r.u32("incompatible_flags")
    r.u32("compatible_flags")
    if crc32(data[: r.position]) != r.u32("prefix_crc"):
        raise FileError("checksum mismatch", element="prefix_crc", offset=PREFIX_SIZE - 4)
    if major != MAJOR:
        raise UnsupportedError(
            f"the file has format version {major}.{minor}, this program reads {MAJOR}.x: "
            "install a newer hnervcodec"
        )
    if incompatible:
        raise UnsupportedError(f"the file needs unknown features (flags {incompatible:#010x})")
    if profile not in levels.PROFILES:
        raise UnsupportedError(f"unknown profile {profile}")
    if level not in levels.LEVELS:
        raise UnsupportedError(f"unknown level {level}")
    return Prefix(major, minor, profile, levels.LEVELS[level])

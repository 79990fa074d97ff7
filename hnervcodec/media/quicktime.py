"""Just enough of QuickTime's and MP4's file format (ISO/IEC 14496-12) to describe a stream that
Matroska has no words for: its sample entry, out of a header that libav has written and into one
that libav reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hnervcodec.bitstream.ancillary import AUDIO, StreamInfo
from hnervcodec.errors import SourceError

_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")  # boxes around sample entries


def _box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, payload) of each box in `data`."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += max(size, 8)


def write_header(info: StreamInfo) -> bytes:
    """A file of one track without any samples, whose sample entry is `info.codec_private`."""
    handler = b"soun" if info.kind == AUDIO else b"sbtl"
    media_header = struct.pack(">12xIIHH", 1000, 0, 0x55C4, 0)  # 1/1000 s, no duration, "und"
    samples = _box(b"stbl", _box(b"stsd", struct.pack(">II", 0, 1), info.codec_private))
    media = _box(b"mdhd", media_header) + _box(b"hdlr", bytes(8), handler, bytes(13))
    track = _box(b"trak", _box(b"mdia", media, _box(b"minf", samples)))
    return _box(b"ftyp", b"isom", bytes(4)) + _box(b"moov", track)


def read_sample_entry(data: bytes) -> bytes:
    """The first track's sample entry, a whole box, in a header that libav has written."""
    for kind in _WAY:
        found = next((payload for name, payload in _boxes(data) if name == kind), None)
        if found is None:
            raise SourceError("libav did not describe a stream")
        data = found
    return data[8:]  # after the version, the flags and the number of entries

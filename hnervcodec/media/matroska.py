"""Just enough Matroska (RFC 9559) for two things that PyAV cannot do.

PyAV makes a stream for compressed packets only after the pattern of one that it has read, so
`write_header` writes a file without packets for it to read, and `read_header` is the inverse. What
PyAV cannot say of a track (light levels, exact aspect, codecs that it thinks Matroska lacks),
`amend` puts into the finished file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from hnervcodec.bitstream.ancillary import AUDIO, Display, StreamInfo
from hnervcodec.errors import SourceError

# Element IDs of RFC 9559, section 5.1
_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_CLUSTER, _CRC, _VOID, _NAME = 0x1F43B675, 0xBF, 0xEC, 0x536E
_SHAPE = (0x54B0, 0x54BA, 0x54B2)  # DisplayWidth, DisplayHeight, DisplayUnit
_VIDEO, _COLOUR, _MASTERING = 0xE0, 0x55B0, 0x55D0
_CODEC, _PRIVATE, _LANGUAGE, _DELAY, _PREROLL = 0x86, 0x63A2, 0x22B59C, 0x56AA, 0x56BB
_AUDIO, _RATE, _CHANNELS, _DEPTH = 0xE1, 0xB5, 0x9F, 0x6264


def _element(identifier: int, payload: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(8, "big"))


def write_header(info: StreamInfo) -> bytes:
    """A Matroska file of one track, `info`'s, without any packets."""
    track = _number(0xD7, 1) + _number(0x73C5, 1)  # its number and its unique one
    track += _number(0x83, 2 if info.kind == AUDIO else 17)  # its type
    track += _element(_CODEC, info.codec.encode()) + _element(_LANGUAGE, info.language.encode())
    if info.codec_private:
        track += _element(_PRIVATE, info.codec_private)
    track += _number(_DELAY, info.codec_delay) + _number(_PREROLL, info.seek_preroll)
    if info.kind == AUDIO:
        audio = _element(_RATE, struct.pack(">d", info.sample_rate))
        audio += _number(_CHANNELS, info.channels)
        audio += _number(_DEPTH, info.bit_depth) if info.bit_depth else b""
        track += _element(_AUDIO, audio)
    segment = _element(_INFO, _number(0x2AD7B1, 1_000_000))  # nanoseconds in a tick
    segment += _element(_TRACKS, _element(_TRACK, track))
    segment += _element(_CLUSTER, _number(0xE7, 0))  # libav reads up to the first one
    return _element(_EBML, _element(0x4282, b"matroska")) + _element(_SEGMENT, segment)


def _spans(data: bytes | bytearray, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(identifier, begin, end of the payload) of each element in data[at:stop]; an element that is
    cut, or of unknown size, ends at `stop`."""
    while at + 1 < stop:
        length = 9 - data[at].bit_length()
        identifier = int.from_bytes(data[at : at + length], "big")
        at += length
        if at >= stop:
            return
        length = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
        at += length
        yield identifier, at, min(at + size, stop)
        at += size


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(identifier, payload) of each element in `data`."""
    return ((name, data[at:end]) for name, at, end in _spans(data, 0, len(data)))


def language_code(name: str) -> str:
    """A language as ISO 639-2 has it: three printable characters, "und" if `name` is none."""
    is_code = len(name) == 3 and all(0x21 <= ord(letter) <= 0x7E for letter in name)
    return name if is_code else "und"


def read_header(data: bytes, kind: int, time_base: Fraction) -> StreamInfo:
    """The description of the first track in the beginning of a Matroska file that libav has
    written. kind: AUDIO or SUBTITLES. time_base: of the packets that will be carried."""
    segment = dict(_elements(data)).get(_SEGMENT, b"")
    tracks = dict(_elements(dict(_elements(segment)).get(_TRACKS, b"")))
    track = dict(_elements(tracks.get(_TRACK, b"")))
    audio = dict(_elements(track.get(_AUDIO, b"")))

    def number(facts: dict[int, bytes], identifier: int) -> int:
        return int.from_bytes(facts.get(identifier, b""), "big")

    if _CODEC not in track:
        raise SourceError("libav did not describe a stream")
    rate = audio.get(_RATE, bytes(8))
    return StreamInfo(
        kind,
        track[_CODEC].decode(),
        time_base,
        language_code(track.get(_LANGUAGE, b"").decode("latin-1")),
        round(struct.unpack(">d" if len(rate) == 8 else ">f", rate)[0]),
        number(audio, _CHANNELS),
        number(audio, _DEPTH),
        number(track, _DELAY),
        number(track, _PREROLL),
        track.get(_PRIVATE, b""),
    )


def reserved(size: int = 0) -> str:
    """A name to give to a track, in whose place `amend` puts at most `size` bytes more than the
    elements of a video track need."""
    return "x" * (1000 + size)


def amend(path: Path, amendments: Mapping[int, Callable[[bytes], bytes]]) -> None:
    """Rewrites tracks of a file that libav has written with a `reserved` name; it keeps its size.

    amendments: by a track's place in the file, from 0, what makes its new payload of the old one,
    such as `with_display` or `with_codec`.
    """
    with open(path, "r+b") as file:
        data = bytearray(_read_tracks(file))
        segment = _child(data, (0, len(data)), _SEGMENT)
        tracks = _child(data, segment, _TRACKS)
        spans = [(at, end) for name, at, end in _spans(data, *tracks) if name == _TRACK]
        for number, amended in amendments.items():
            begin, end = spans[number]
            track = amended(bytes(data[begin:end]))
            free = end - begin - len(track) - 9  # 9: a Void element's identifier and size
            data[begin:end] = track + _element(_VOID, bytes(free))
        first = next(_spans(data, *tracks))
        if first[0] == _CRC:
            crc = zlib.crc32(data[first[2] : tracks[1]])
            data[first[1] : first[2]] = crc.to_bytes(4, "little")
        file.seek(tracks[0])
        file.write(data[slice(*tracks)])


def _read_tracks(file: BinaryIO) -> bytes:
    """The beginning of a file up to the first cluster of packets, and some more."""
    data, size = b"", 1 << 16
    while True:
        data += file.read(size)
        segment = _child(data, (0, len(data)), _SEGMENT)
        if len(data) < size or any(name == _CLUSTER for name, _, _ in _spans(data, *segment)):
            return data
        size = len(data)


def _child(data: bytes | bytearray, parent: tuple[int, int], wanted: int) -> tuple[int, int]:
    """Begin and end of the payload of the first `wanted` element within `parent`'s."""
    return next((at, end) for name, at, end in _spans(data, *parent) if name == wanted)


def with_codec(track: bytes, codec: str, private: bytes) -> bytes:
    """The payload of a track, with another CodecID and CodecPrivate and without its name."""
    rest = [(n, p) for n, p in _elements(track) if n not in (_NAME, _CODEC, _PRIVATE)]
    elements = b"".join(_element(n, p) for n, p in rest)
    return elements + _element(_CODEC, codec.encode()) + _element(_PRIVATE, private)


def with_display(
    track: bytes, width: int, height: int, aspect: tuple[int, int], display: Display
) -> bytes:
    """The payload of a video track, with sample aspect and light levels and without its name.

    width, height: of the frames. aspect: of a sample, numerator and denominator.
    """
    amended = b""
    for name, payload in _elements(track):
        if name == _VIDEO:
            colour = dict(_elements(payload)).get(_COLOUR, b"") + _light(display)
            shape = _shape(width, height, aspect)
            replaced = (_COLOUR, *(_SHAPE if shape else ()))
            rest = [(n, p) for n, p in _elements(payload) if n not in replaced]
            payload = b"".join(_element(n, p) for n, p in rest) + shape
            payload += _element(_COLOUR, colour) if colour else b""
        if name != _NAME:
            amended += _element(name, payload)
    return amended


def _shape(width: int, height: int, aspect: tuple[int, int]) -> bytes:
    """Elements that say how large, or in which ratio, frames are shown; none for square samples."""
    num, den = aspect
    if num == den:
        return b""
    if width * num % den == 0:  # in pixels
        sides, unit = (width * num // den, height), 0
    else:  # as a ratio
        ratio = Fraction(width * num, height * den)
        sides, unit = (ratio.numerator, ratio.denominator), 3
    values = zip(_SHAPE, (*sides, unit), strict=True)
    return b"".join(_number(identifier, value) for identifier, value in values)


def _light(display: Display) -> bytes:
    """Elements of a Colour element that say the light levels."""
    elements = b""
    if display.content_light:
        elements += _number(0x55BC, display.content_light[0]) + _number(
            0x55BD, display.content_light[1]
        )
    if display.mastering:
        green_blue_red_white = [value / 50000 for value in display.mastering.primaries]
        values = green_blue_red_white[4:6] + green_blue_red_white[:4] + green_blue_red_white[6:]
        values += [display.mastering.max_luminance / 10000, display.mastering.min_luminance / 10000]
        floats = (_element(0x55D1 + n, struct.pack(">d", value)) for n, value in enumerate(values))
        elements += _element(_MASTERING, b"".join(floats))
    return elements

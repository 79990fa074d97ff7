"""Just enough Matroska (RFC 9559) to describe a stream of sound or subtitles: PyAV makes a stream
to be muxed only from one that it has read, so `write_header` gives it one to read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

from hnervcodec.ancillary import AUDIO, StreamInfo
from hnervcodec.errors import SourceError

_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_CLUSTER = 0x1F43B675
_CODEC, _PRIVATE, _LANGUAGE, _DELAY, _PREROLL = 0x86, 0x63A2, 0x22B59C, 0x56AA, 0x56BB
_AUDIO, _RATE, _CHANNELS, _DEPTH = 0xE1, 0xB5, 0x9F, 0x6264


def _element(identifier: int, payload: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(8, "big"))


def write_header(info: StreamInfo) -> bytes:
    """A Matroska file of this one stream without any packets."""
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


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(identifier, payload) of each; one of unknown size, or cut, takes the rest."""
    at = 0
    while at < len(data):
        length = 9 - data[at].bit_length()
        identifier = int.from_bytes(data[at : at + length], "big")
        at += length
        if at >= len(data):
            return
        length = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
        at += length
        yield identifier, data[at : at + size]
        at += size


def read_header(data: bytes, kind: int, time_base: Fraction) -> StreamInfo:
    """The inverse, of a file that libav has written."""
    segment = dict(_elements(data)).get(_SEGMENT, b"")
    tracks = dict(_elements(dict(_elements(segment)).get(_TRACKS, b"")))
    track = dict(_elements(tracks.get(_TRACK, b"")))
    audio = dict(_elements(track.get(_AUDIO, b"")))

    def number(facts: dict[int, bytes], identifier: int) -> int:
        return int.from_bytes(facts.get(identifier, b""), "big")

    if _CODEC not in track:
        raise SourceError("libav did not describe a stream")
    rate = audio.get(_RATE, bytes(8))
    language = track.get(_LANGUAGE, b"und").decode("ascii", "replace")
    return StreamInfo(
        kind, track[_CODEC].decode(), time_base, language if len(language) == 3 else "und",
        round(struct.unpack(">d" if len(rate) == 8 else ">f", rate)[0]), number(audio, _CHANNELS),
        number(audio, _DEPTH), number(track, _DELAY), number(track, _PREROLL),
        track.get(_PRIVATE, b""),
    )  # fmt: skip

"""Between libav's streams of sound and subtitles and `StreamInfo`, which describes them in words of
Matroska."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from typing import Any

import av
from av.container.input import InputContainer

from hnervcodec.bitstream.ancillary import (
    AUDIO,
    SUBTITLES,
    StreamInfo,
    read_stream,
    write_stream,
)
from hnervcodec.bitstream.fields import ByteReader
from hnervcodec.errors import HnervError, SourceError
from hnervcodec.media import matroska, quicktime

KINDS = {"audio": AUDIO, "subtitle": SUBTITLES}  # by libav's name
# CodecIDs for what Matroska does not name itself, by what codec_private then holds
WAVE = "A_MS/ACM"  # a WAVEFORMATEX
QUICKTIME = {AUDIO: "A_QUICKTIME", SUBTITLES: "S_QUICKTIME"}  # a sample entry
REFUSALS = (av.error.FFmpegError, ValueError, OverflowError, AttributeError, HnervError)


def describe(stream: Any) -> StreamInfo:
    """The description of a stream that libav reads, as another reader of ours will understand it.

    Matroska's own words come first; for other codecs those of WAV, then those of MP4 and
    QuickTime. Raises one of `REFUSALS` if none of them, or no field of ours, holds it.
    """
    kind = KINDS[stream.type]
    try:
        header = _header(stream, "matroska")
        return _as_read(matroska.read_header(header, kind, stream.time_base))
    except REFUSALS:
        otherwise = _describe_otherwise(stream, kind)
        if otherwise is None:
            raise
        return otherwise


def _describe_otherwise(stream: Any, kind: int) -> StreamInfo | None:
    if stream.codec_context is None:  # libav has no decoder, and PyAV then does not mux it either
        return None
    language = matroska.language_code(stream.metadata.get("language", ""))
    info = StreamInfo(kind, QUICKTIME[kind], stream.time_base, language)
    if kind == AUDIO:
        context = stream.codec_context
        info = replace(info, sample_rate=context.sample_rate, channels=context.channels)
        with suppress(*REFUSALS):
            private = _wave_format(_header(stream, "wav"))
            return _as_read(replace(info, codec=WAVE, codec_private=private))
    for muxer in ("mp4", "mov"):
        with suppress(*REFUSALS):
            header = _header(stream, muxer, {"movflags": "empty_moov"})
            return _as_read(replace(info, codec_private=quicktime.read_sample_entry(header)))
    return None


def _header(stream: Any, muxer: str, options: dict[str, str] | None = None) -> bytes:
    """The header that libav writes for a file of this stream only."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer, container_options=options) as container:
        copy = container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        container.start_encoding()
        return file.getvalue()


def _as_read(info: StreamInfo) -> StreamInfo:
    """The description after a way through the format, whose reader refuses what it cannot hold."""
    return read_stream(ByteReader(write_stream(info)))


def _wave_format(data: bytes) -> bytes:
    """The payload of a WAV file's `fmt ` chunk, which libav writes first."""
    size = int.from_bytes(data[16:20], "little")
    if data[12:16] != b"fmt ":
        raise SourceError("libav did not describe a stream")
    return data[20 : 20 + size]


def open_template(info: StreamInfo) -> InputContainer:
    """An open file without packets, whose only stream is as `info` says."""
    is_quicktime = info.codec in QUICKTIME.values()
    muxer = quicktime if is_quicktime else matroska
    file = io.BytesIO(muxer.write_header(info))
    return av.open(file, "r", format="mov" if is_quicktime else "matroska")


def codec_name(stream: Any) -> str:
    """libav's name of a stream's codec, as it may be told to a person."""
    context = stream.codec_context
    return context.name if context else "an unknown codec"

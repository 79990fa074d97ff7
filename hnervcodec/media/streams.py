"""Sound and subtitles, which are carried as compressed packets: out of a source, and into a
container that is being written."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from hnervcodec.bitstream.ancillary import (
    AUDIO,
    MAX_STREAMS,
    StreamInfo,
    StreamPacket,
    coarsening_factor,
    divide_rounded,
    shift_packets,
)
from hnervcodec.errors import HnervError, SourceError
from hnervcodec.media.demuxing import Demuxer, choose_video, open_source
from hnervcodec.media.frames import reason
from hnervcodec.media.stream_formats import KINDS, REFUSALS, codec_name, describe


def read_streams(
    source: str | Path,
    shift: Fraction,
    begin: Fraction | None,
    end: Fraction | None,
    *,
    video: int | None = None,
) -> tuple[list[StreamInfo], list[StreamPacket], list[str]]:
    """Reads sound and subtitles of a file: the streams, their packets in file order, and notes of
    what is lost.

    shift: seconds to subtract from all times. begin, end: in seconds of the source's time; only
    packets that start between them are taken, and all where they are None. video: the number of the
    video stream that goes with them, as `VideoSource` takes it. SourceError if the file cannot be
    read.
    """
    infos: list[StreamInfo] = []
    notes: list[str] = []
    try:
        with open_source(source) as container:
            chosen: list[Any] = []
            pictures: list[Any] = []
            if container.streams.video:
                pictures = [choose_video(container, str(source), video)[0]]
            for stream in container.streams:
                if stream.type not in KINDS:
                    continue
                if len(chosen) == MAX_STREAMS:
                    notes.append(f"sound and subtitles after the first {MAX_STREAMS} are lost")
                    break
                try:
                    infos.append(describe(stream))
                    chosen.append(stream)
                except REFUSALS as error:
                    notes.append(_loss(stream, error))
            packets = []
            latest: dict[int, int] = {}  # pts by stream
            # Times jump for all streams together: all have to be read as `VideoSource` reads them.
            timed = [*pictures, *container.streams.audio, *chosen]
            demuxer = Demuxer(container, timed if chosen else [])
            for packet in demuxer:
                if packet.stream not in chosen:
                    continue
                pts = packet.pts if packet.pts is not None else packet.dts
                if pts is None:
                    continue
                number, data = chosen.index(packet.stream), bytes(packet)
                if demuxer.jumps:  # sound may have gone on for longer than the picture before
                    pts = max(pts, latest.get(number, pts - 1) + 1)
                latest[number] = pts
                if infos[number].codec == "A_AAC" and _is_adts(data):
                    infos[number] = replace(infos[number], codec_private=_aac_config(data))
                    data = data[7 if data[1] & 1 else 9 :]
                packets.append(StreamPacket(number, pts, max(packet.duration or 0, 0), data))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"cannot read the sound of {source}: {reason(error)}") from error
    infos, packets = coarsened(infos, shift_packets(packets, infos, shift, begin, end))
    return [_primed(info, n, packets) for n, info in enumerate(infos)], packets, notes


def _loss(stream: Any, error: Exception) -> str:
    """A note that a stream is not carried, and what to do."""
    what = codec_name(stream)
    why = error if isinstance(error, HnervError) else "neither Matroska nor MP4 nor MOV holds it"
    into = "-c:a flac" if stream.type == "audio" else "-c:s subrip"
    return (
        f"stream {stream.index} ({stream.type}, {what}) is lost: {why}; convert it first: "
        f"ffmpeg -i IN -map 0 -c copy {into} OUT.mkv"
    )


def coarsened(
    infos: list[StreamInfo], packets: list[StreamPacket]
) -> tuple[list[StreamInfo], list[StreamPacket]]:
    """Brings streams and packets into time bases in which our format can say their times: one
    packet of more than 4 s is too much for nanoseconds."""
    factors = [1] * len(infos)
    for packet in packets:
        factor = coarsening_factor(packet.duration, abs(packet.pts))
        factors[packet.stream] = max(factors[packet.stream], factor)
    infos = [
        replace(info, time_base=info.time_base * factor)
        for info, factor in zip(infos, factors, strict=True)
    ]
    rounded = []
    for packet in packets:
        factor = factors[packet.stream]
        pts, duration = divide_rounded(packet.pts, factor), divide_rounded(packet.duration, factor)
        rounded.append(replace(packet, pts=pts, duration=duration))
    return infos, rounded


def _is_adts(data: bytes) -> bool:
    """Whether an AAC packet begins with ADTS, the header that it has in MPEG streams (ISO/IEC
    13818-7)."""
    return len(data) > 9 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


def _aac_config(data: bytes) -> bytes:
    """An ADTS header as the AudioSpecificConfig of MP4 and Matroska (ISO/IEC 14496-3)."""
    kind, rate = (data[2] >> 6) + 1, data[2] >> 2 & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")


def _primed(info: StreamInfo, number: int, packets: list[StreamPacket]) -> StreamInfo:
    """Tells sound that begins before time 0 as a codec delay, which decoders drop; Matroska would
    have to move all streams otherwise."""
    first = next((packet.pts for packet in packets if packet.stream == number), 0)
    if info.kind != AUDIO or info.codec_delay or first >= 0:
        return info
    delay = round(-first * info.time_base * 1_000_000_000)
    return replace(info, codec_delay=min(delay, (1 << 63) - 1))

"""Carried sound and subtitles on their way into a file that libav writes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from typing import Any

import av
from av.container.output import OutputContainer
from av.packet import Packet

from hnervcodec.bitstream.ancillary import AUDIO, SUBTITLES, StreamInfo, StreamPacket
from hnervcodec.errors import OutputError
from hnervcodec.media import matroska
from hnervcodec.media.carrier_times import rescaled, within_int32
from hnervcodec.media.frames import reason
from hnervcodec.media.output_formats import name_of
from hnervcodec.media.stream_formats import QUICKTIME, REFUSALS, WAVE, codec_name, open_template

_MUXERS = ("matroska", "mp4", "mov")  # that may hold what another one does not
_LAYOUTS = {1: "mono", 2: "stereo", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# PyAV takes Matroska for a container without A_MS/ACM: its packets are written under a codec that
# libav passes on as it is, and the track is renamed in the finished file.
_STAND_IN = "A_DTS"
_LOOK_AHEAD = 256  # packets among which the first one of each stream is looked for
_MAX_TICKS = 1 << 62  # of a time: libav's have 64 bits, and it adds to them
_MAX_DURATION = (1 << 31) - 1  # ticks that MP4 holds
_MOST_SUBTITLE_TICKS = 90000  # per second


class _Track:
    """A stream of a container that is being written, and how far it is written."""

    def __init__(self, container: OutputContainer, info: StreamInfo):
        """Raises one of REFUSALS, or IndexError, if the container holds no such stream."""
        self._container, self._info = container, info
        self.is_renamed = info.codec == WAVE and container.format.name == "matroska"
        self._is_strict = container.format.name in ("mp4", "mov")  # times have to increase
        stand_in = replace(info, codec=_STAND_IN, codec_private=b"")
        with open_template(info) as template, open_template(stand_in) as other:
            if template.streams[0].codec_context is None:
                raise ValueError("an unknown codec")
            pattern = (other if self.is_renamed else template).streams[0]
            stream: Any = container.add_stream_from_template(pattern, opaque=True)
        if info.channels in _LAYOUTS:  # of which Matroska tells only the number
            stream.codec_context.layout = _LAYOUTS[info.channels]
        stream.metadata["language"] = info.language
        if self.is_renamed:
            stream.metadata["title"] = matroska.reserved(len(info.codec_private))
        stream.time_base = _time_base(info)
        self.stream = stream
        self._last: int | None = None
        self._step = 0  # from one packet to the next

    def write(self, packet: StreamPacket) -> None:
        """Appends a packet; OutputError if libav refuses it. Where a duration is unknown, it is the
        distance from the packet before, as the last one would not be heard otherwise."""
        ratio = self._info.time_base / self.stream.time_base
        pts, duration = rescaled(packet.pts, ratio), rescaled(packet.duration, ratio)
        if abs(pts) > _MAX_TICKS:
            raise self._error(packet, "the time is too far away")
        if self._last is not None:
            if self._is_strict and pts <= self._last:
                pts = self._last + 1
            self._step = pts - self._last
        if self._info.kind == AUDIO and not packet.duration:
            duration = max(self._step, 0)
        self._last = pts
        copy = Packet(packet.data)
        copy.stream, copy.time_base = self.stream, self.stream.time_base
        copy.pts = copy.dts = pts
        copy.duration = min(duration, _MAX_DURATION)
        copy.is_keyframe = True
        try:
            self._container.mux(copy)
        except BrokenPipeError:  # also one of libav's errors
            raise
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            raise self._error(packet, reason(error)) from error

    def _error(self, packet: StreamPacket, why: str) -> OutputError:
        name = name_of(self._container.format.name)
        seconds = float(packet.pts * self._info.time_base)
        what = f"the {_kind(self._info)} in {_codec(self._info)} at {seconds:.6g} s"
        instead = "" if name == "mkv" else "; try .mkv"
        return OutputError(f".{name} does not hold {what}: {why}{instead}")


def _time_base(info: StreamInfo) -> Fraction:
    """The time base to ask the container for. Pauses of subtitles are long, and MP4 counts 31 bits
    of ticks, which are 36 minutes of microseconds."""
    base = within_int32(info.time_base)
    is_fine = info.kind == SUBTITLES and base.denominator > _MOST_SUBTITLE_TICKS
    return Fraction(1, _MOST_SUBTITLE_TICKS) if is_fine else base


def _kind(info: StreamInfo) -> str:
    return "sound" if info.kind == AUDIO else "subtitles"


def _codec(info: StreamInfo) -> str:
    """The codec's name, as it may be told to a person."""
    if info.codec in (WAVE, *QUICKTIME.values()):
        with suppress(*REFUSALS, IndexError), open_template(info) as template:
            return codec_name(template.streams[0])
    return info.codec


def _is_held(muxer: str, info: StreamInfo, first: StreamPacket | None) -> bool:
    """Whether libav's `muxer` takes such a stream. Some say so only with its first packet, and some
    only when the file is finished."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as container:
            track = _Track(container, info)
            container.start_encoding()
            if first is not None:
                track.write(first)
    except (*REFUSALS, IndexError):
        return False
    return True


class StreamCopier:
    """Writes packets of carried streams into a container that is being written.

    notes: which streams the container does not hold, and which ones do. amendments: what
    `matroska.amend` must do to the finished file, by track.
    """

    def __init__(
        self, container: OutputContainer, infos: list[StreamInfo], packets: Iterable[StreamPacket]
    ):
        """packets: of all streams, by their times; they are read as they are written."""
        self._infos = infos
        self.notes: list[str] = []
        self.amendments: dict[int, Callable[[bytes], bytes]] = {}
        iterator = iter(packets if infos else ())
        ahead = _ahead(iterator, len(infos))
        firsts = {packet.stream: packet for packet in reversed(ahead)}
        self._tracks = [self._track(container, info, firsts.get(n)) for n, info in enumerate(infos)]
        self._packets = chain(ahead, iterator)
        self._next = next(self._packets, None)

    def _track(
        self, container: OutputContainer, info: StreamInfo, first: StreamPacket | None
    ) -> _Track | None:
        muxer = container.format.name
        if not _is_held(muxer, info, first):
            self.notes.append(_refusal(muxer, info, first))
            return None
        track = _Track(container, info)
        if track.is_renamed:
            self.amendments[track.stream.index] = partial(
                matroska.with_codec, codec=info.codec, private=info.codec_private
            )
        return track

    def write(self, until: Fraction | None) -> None:
        """Writes the packets that begin before `until` seconds; None: all that are left."""
        while self._next is not None:
            number = self._next.stream
            if until is not None and self._next.pts * self._infos[number].time_base >= until:
                return
            track = self._tracks[number]
            if track is not None:
                track.write(self._next)
            self._next = next(self._packets, None)


def _ahead(packets: Iterator[StreamPacket], streams: int) -> list[StreamPacket]:
    """The packets up to that one which begins the last of the streams."""
    ahead: list[StreamPacket] = []
    seen: set[int] = set()
    for packet in islice(packets, _LOOK_AHEAD):
        ahead.append(packet)
        seen.add(packet.stream)
        if len(seen) == streams:
            break
    return ahead


def _refusal(muxer: str, info: StreamInfo, first: StreamPacket | None) -> str:
    """A note that a stream is lost, and what to do."""
    others = [f".{name_of(other)}" for other in _MUXERS if _is_held(other, info, first)]
    instead = f": {' and '.join(others)} {'do' if len(others) > 1 else 'does'}" if others else ""
    return f".{name_of(muxer)} does not hold the {_kind(info)} in {_codec(info)}{instead}"

"""Opens a source and reads its packets as ffmpeg's own command does: of the stream that it would
choose, with times that go on where a recording was joined to another."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition

from hnervcodec.errors import SourceError, UsageError
from hnervcodec.media.frames import address, reason, stream_line
from hnervcodec.media.libav_errors import ErrorCount

MAX_JUMP = 10  # seconds: ffmpeg's -dts_delta_threshold
MAX_STEP_BACK = Fraction(1, 10)  # seconds
_DEFAULT_WEIGHS = 5_000_000  # samples, as in ffmpeg's choice of a stream
_BEGIN_ANYWHERE = ("mpeg", "flv", "live_flv", "hls", "dash")  # as format names start


def open_source(source: str | Path, **options: Any) -> InputContainer:
    """Opens a file, a pattern or an address that libav knows. Titles that are not UTF-8 do no harm.
    SourceError, with what to do about a pipe, if libav cannot open it."""
    return open_counting(source, **options)[0]


def open_counting(source: str | Path, **options: Any) -> tuple[InputContainer, int]:
    """Opens a source as `open_source` does, and counts in how many places of what was read by then
    its structure is damaged."""
    name, reported = str(source), ErrorCount()
    try:
        with reported:
            opened = av.open(address(name), "r", metadata_errors="replace", **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"cannot open {name}: {reason(error)}{pipe_advice(name)}") from error
    container = cast(InputContainer, opened)
    # Decoders, which have a look too, tell of what they find again when it is their turn.
    return container, reported.names.count(container.format.name)


def open_standard_input() -> InputContainer:
    """Opens Y4M on standard input; SourceError for anything else."""
    peek = getattr(sys.stdin.buffer, "peek", None)
    if peek and bytes(peek(12))[4:8] == b"ftyp":
        raise SourceError(
            "standard input is MP4, which is not seekable there: give the file, or pipe its frames "
            "on with ffmpeg -i FILE -f yuv4mpegpipe -"
        )
    try:
        return av.open(sys.stdin.buffer, "r", format="yuv4mpegpipe")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"cannot open standard input: {reason(error)}") from error


def pipe_advice(source: str) -> str:
    """What to do about a pipe that libav cannot read; nothing for what is none."""
    if not os.path.exists(source) or os.path.isfile(source) or os.path.isdir(source):
        return ""
    return " (a pipe is not seekable: give the file or, of MP4, use -movflags frag_keyframe)"


def codec_name(container: InputContainer, stream: Any) -> str:
    """libav's name of a stream's codec; of one that it does not know, the four letters by which the
    file calls it."""
    if stream.codec_context:
        return str(stream.codec_context.codec.canonical_name)
    line = stream_line(container, stream.index)
    found = re.search(r"Video: (\w+)", line), re.search(r"\((\S+) / 0x", line)
    names = [match[1] for match in found if match]
    return next((name for name in names if name not in ("none", "unknown")), "its codec")


def _describe(stream: Any) -> str:
    context = stream.codec_context
    size = f", {context.width}x{context.height}" if context else ""
    return f"stream {stream.index} ({codec_name(stream.container, stream)}{size})"


def choose_video(container: InputContainer, name: str, wanted: int | None) -> tuple[Any, list[str]]:
    """The video stream to read, and notes of those that are left.

    wanted: its number; None for the stream that ffmpeg would take, that with the most samples,
    where being the default weighs as much as five million of them. Among equals colour goes before
    grey and an animation before a still: an AVIF file holds all four. A cover picture is never the
    video.

    SourceError if there is none; UsageError if `wanted` is none of the video streams.
    """
    streams: list[Any] = list(container.streams.video)
    if container.format.name == "tty":  # libav "plays" text files as terminal art
        streams = []
    if wanted is not None:
        found = [stream for stream in streams if stream.index == wanted]
        if not found:
            numbers = ", ".join(str(stream.index) for stream in streams) or "none"
            raise UsageError(f"`stream` {wanted} of {name} is no video: those are {numbers}")
        return found[0], []
    videos = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if streams and not videos:
        number = streams[0].index
        raise SourceError(f"{name} holds no video but a cover picture (stream {number})")
    if not videos:
        raise SourceError(f"{name} holds no video stream")
    parts = [s for s in videos if s.disposition & Disposition.dependent]
    videos = [s for s in videos if s not in parts]
    if parts and not any(s.disposition & Disposition.default for s in videos):
        # Others than the tiles are thumbnails. PyAV does not tell where tiles lie, and how turned.
        raise SourceError(
            f"{name} is a picture in {len(parts)} tiles, which are not put together here: convert "
            "it with ffmpeg to a PNG first"
        )

    def rank(stream: Any) -> tuple[int, bool, int, int]:
        context = stream.codec_context
        samples = context.width * context.height if context else 0
        is_default = bool(stream.disposition & Disposition.default)
        score = samples + _DEFAULT_WEIGHS * is_default
        return score, not _is_grey(stream), stream.frames, -stream.index

    chosen = max(videos, key=rank)
    others = [_describe(stream) for stream in videos if stream is not chosen]
    if not others:
        return chosen, []
    return chosen, [f"{_describe(chosen)} is coded; choose by number instead: {', '.join(others)}"]


def has_alpha_beside(container: InputContainer, stream: Any) -> bool:
    """Whether a picture or an animation in AVIF or HEIF has its transparency in another stream."""
    brand = container.metadata.get("major_brand", "")
    size = stream.codec_context.width, stream.codec_context.height
    return brand.startswith(("avi", "hei", "hev", "mif", "msf")) and any(
        _is_grey(other) and (other.codec_context.width, other.codec_context.height) == size
        for other in container.streams.video
        if other.index != stream.index
    )


def _is_grey(stream: Any) -> bool:
    context = stream.codec_context
    return bool(context and context.pix_fmt and context.pix_fmt.startswith("gray"))


def start(container: InputContainer) -> Fraction:
    """The source's time, in seconds, that becomes 0: where the first of its streams begins, in
    formats that begin anywhere, such as MPEG-TS."""
    if container.start_time is None or not container.format.name.startswith(_BEGIN_ANYWHERE):
        return Fraction(0)
    return Fraction(container.start_time, 1_000_000)


class Demuxer:
    """Yields the packets of some streams of a container, once, in file order.

    In formats whose time may jump, such as MPEG-TS after MPEG-TS, all streams' times are moved
    together so that they go on, as ffmpeg does it (`ts_discontinuity_process` in its
    ffmpeg_demux.c). `may_jump`: whether the format is of these; `jumps`: how often that was done.
    `errors`: how often the file's structure was found to be damaged. `error`: why reading ended
    early, if it did.
    """

    def __init__(self, container: InputContainer, streams: Sequence[Any]):
        self._container, self._streams = container, streams
        self.may_jump = Flags.ts_discont in Flags(container.format.flags)
        self._offset = Fraction(0)
        self._last: dict[int, Fraction] = {}  # decoding time of each stream's last packet
        self._next: dict[int, Fraction] = {}  # and when the one after it is due
        self._newest: Fraction | None = None  # of any stream
        self.jumps = self.errors = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Packet[Any]]:
        if not self._streams:  # PyAV would take them all
            return
        try:
            packets = self._container.demux(tuple(self._streams))
            while True:
                with ErrorCount() as reported:
                    packet = next(packets, None)
                # Parsers, too, tell of what decoders find again.
                self.errors += reported.names.count(self._container.format.name)
                if packet is None:
                    return
                if not packet.size:  # AVI's empty frames, and PyAV's mark of the end
                    continue
                if self.may_jump:
                    self._move(packet)
                yield packet
        except av.error.FFmpegError as error:
            self.error = error

    def _move(self, packet: Packet[Any]) -> None:
        base = packet.time_base
        if packet.dts is not None and packet.stream.type in ("video", "audio"):
            number = packet.stream.index
            at = packet.dts * base + self._offset
            due = self._next.get(number, self._newest)
            is_back = number in self._last and at + MAX_STEP_BACK < self._last[number]
            if due is not None and (abs(at - due) > MAX_JUMP or is_back):
                self._offset -= at - due
                self.jumps += 1
                at = due
            self._newest = self._last[number] = at
            self._next[number] = at + self._duration(packet)
        if self._offset:
            ticks = round(self._offset / base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    @staticmethod
    def _duration(packet: Packet[Any]) -> Fraction:
        if packet.duration:
            return packet.duration * packet.time_base
        rate = packet.stream.average_rate if packet.stream.type == "video" else None
        return 1 / rate if rate else Fraction(0)

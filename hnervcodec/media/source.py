"""Reading video: anything libav opens becomes planar YCbCr, RGB or grey frames of 8 to 12 bits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from hnervcodec.bitstream.ancillary import Display, SegmentTimes
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import IDENTITY, UNSPECIFIED, VideoHeader
from hnervcodec.bitstream.timing import times_of
from hnervcodec.errors import SourceError
from hnervcodec.media.frames import (
    address,
    chroma_siting,
    display_of,
    frame_format,
    from_frame,
    reason,
)
from hnervcodec.planes import Planes, plane_bytes

_JPEG_RANGE = 2  # libav's AVCOL_RANGE_JPEG
MAX_DIMENSION = 65535
EARLIER, MUCH_LATER = 2, 10  # seconds
Entry = tuple[int, int]  # a frame's pts, in its stream's time base, and the CRC-32 of its planes


def _native_format(name: str) -> tuple[int, int]:
    """(chroma_format, bit_depth) that loses least of libav's pixel format `name`."""
    pixels = VideoFormat(name, 64, 64)
    depth = max(component.bits for component in pixels.components)
    depth = 8 if depth <= 8 else 10 if depth <= 10 else 12
    if pixels.is_rgb or pixels.has_palette:
        return 3, depth
    components = [c for c in pixels.components if not c.is_alpha]
    if len(components) == 1:
        return 0, depth
    if components[1].height < 64:
        return 1, depth
    return (2, depth) if components[1].width < 64 else (3, depth)


class VideoSource:
    """Frames of the first video stream of `source`, a path or "-" for Y4M on standard input.

    `skip` frames of it are left out, then each `every`-th is taken, at most `limit` of them.
    `header` describes these (its `frame_count` is 0), `display` how they are to be shown;
    `frames()` yields their planes once, and then `times()` is known.
    `entry`: of the first of these frames, found there without decoding all that it follows.
    `notes`: what of the source is lost.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        skip: int = 0,
        limit: int | None = None,
        every: int = 1,
        entry: Entry | None = None,
    ):
        self.name = "standard input" if str(source) == "-" else str(source)
        self._source, self._entry = str(source), entry
        self._skip, self._limit, self._every = skip, limit, every
        self._stamps: list[tuple[int, int] | None] = []  # pts and duration of selected frames
        self._is_ordered = True
        self._open()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(f"{self.name} holds no video frames")
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self.header = self._describe(first)
            display = display_of(first)
            self.display = display or Display()
            self.notes = self._losses(first, display)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            if self._source == "-":
                self._container = av.open(sys.stdin.buffer, "r", format="yuv4mpegpipe")
            else:
                self._container = av.open(address(self._source), "r")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"cannot open {self.name}: {reason(error)}") from error
        # libav "plays" text files as terminal art.
        if not self._container.streams.video or self._container.format.name == "tty":
            self.close()
            raise SourceError(f"{self.name} holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoded = self._decode()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def _decode(self, latest: int | None = None) -> Iterator[VideoFrame]:
        """`latest`: the decoding time after which no first frame is waited for."""
        is_begun = False
        try:
            for packet in self._container.demux(self._stream):
                if latest is not None and not is_begun and (packet.dts or 0) > latest:
                    return
                for frame in packet.decode():
                    is_begun = True
                    yield frame
        except av.error.FFmpegError as error:
            raise SourceError(f"cannot decode {self.name}: {reason(error)}") from error

    def _describe(self, frame: VideoFrame) -> VideoHeader:
        if max(frame.width, frame.height) > MAX_DIMENSION:
            raise SourceError(f"{self.name}: {frame.width}x{frame.height} frames are too large")
        name = frame.format.name
        chroma_format, bit_depth = _native_format(name)
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        matrix = IDENTITY if is_rgb else _code(frame.colorspace)
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        rate = Fraction(rate).limit_denominator(1_000_000)
        aspect = self._stream.sample_aspect_ratio or Fraction(0)
        if max(aspect.numerator, aspect.denominator) > 65535:
            aspect = Fraction(0)
        header = VideoHeader(
            width=frame.width,
            height=frame.height,
            chroma_format=chroma_format,
            frame_rate=(rate if rate > 0 else Fraction(25)) / self._every,
            bit_depth=bit_depth,
            chroma_siting=chroma_siting(self._container, self._stream),
            full_range=is_rgb or name.startswith("yuvj") or frame.color_range == _JPEG_RANGE,
            colour_primaries=_code(frame.color_primaries),
            transfer_characteristics=_code(frame.color_trc),
            # The identity matrix of what is not RGB, as of a grey PNG, says nothing.
            matrix_coefficients=UNSPECIFIED if matrix == IDENTITY and not is_rgb else matrix,
            sample_aspect=(aspect.numerator, aspect.denominator) if aspect else (0, 0),
        )
        self._format = frame_format(header)
        return header

    def _losses(self, frame: VideoFrame, display: Display | None) -> list[str]:
        notes = []
        if display is None:
            notes.append(f"the rotation by {frame.rotation} degrees is not coded")
        if frame.interlaced_frame:
            notes.append("interlaced frames are coded as if they were progressive")
        if any(component.is_alpha for component in frame.format.components) and _is_seen_through(
            frame
        ):
            notes.append("transparency is not coded")
        depth = max(component.bits for component in frame.format.components)
        is_same = frame.format.is_rgb or frame.format.has_palette
        is_same = is_same or frame.format.name.replace("yuvj", "yuv") == self._format
        if not is_same or depth > self.header.bit_depth:
            notes.append(f"{frame.format.name} is converted to {self._format}")
        return notes

    def times(self) -> SegmentTimes | None:
        """When the frames that `frames()` has yielded are shown; None: at the constant rate. From 0
        on if `skip` leaves any out, else when the source shows them."""
        base, rate = self._stream.time_base, self.header.frame_rate
        stamps = [stamp for stamp in self._stamps if stamp is not None]
        if base is None or len(stamps) < len(self._stamps):
            return None
        start = self._origin if self._skip == 0 else stamps[0][0]
        try:
            return times_of(base, [(pts - start, duration) for pts, duration in stamps], rate)
        except ValueError:
            self.notes.append("timestamps do not increase: frames come out at a constant rate")
            return None

    def window(self) -> tuple[Fraction, Fraction | None, Fraction | None]:
        """The source's time, in seconds, that is 0 here, and between which times the frames lie
        that `frames()` has yielded; None: from the very beginning, to the very end."""
        base = self._stream.time_base or Fraction(1)
        first, last = self._stamps[0] or (0, 0), self._stamps[-1] or (0, 0)
        begin = None if self._skip == 0 else first[0] * base
        duration = max(last[1] * base, 1 / self.header.frame_rate)
        end = None if self._is_read_out else last[0] * base + duration
        return self._origin * base if begin is None else begin, begin, end

    @property
    def _origin(self) -> int:
        """Where time begins, in the stream's time base: MPEG streams begin anywhere."""
        start, base = self._container.start_time, self._stream.time_base
        if start is None or not base or not self._container.format.name.startswith("mpeg"):
            return 0
        return round(Fraction(start, 1_000_000) / base)

    def entry(self, planes: Planes) -> Entry | None:
        """Where the frame is that `frames()` has just yielded."""
        stamp = self._stamps[-1]
        return stamp and (stamp[0], crc32(plane_bytes(planes)))

    @property
    def tells_frames_apart(self) -> bool:
        """Whether all of the source's frames have been seen, and their timestamps increase."""
        return self._is_ordered and self._is_read_out

    @property
    def _is_read_out(self) -> bool:
        """Whether `frames()` went on to the source's end."""
        return self._limit is None or len(self._stamps) < self._limit

    def _from_entry(self, entry: Entry) -> Iterator[VideoFrame] | None:
        """The frames from there on, if the one there is the same when decoding begins at a key
        frame before it: some streams have none that deserve the name."""
        base = self._stream.time_base or Fraction(1)
        for back in (0, round(EARLIER / base)):  # as some indices order frames as they are coded
            with suppress(av.error.FFmpegError, SourceError):
                self._container.seek(entry[0] - back, stream=self._stream)
                self._decoded = self._decode(entry[0] + round(MUCH_LATER / base))
                for frame in self._decoded:
                    if frame.pts == entry[0]:
                        planes = from_frame(self._to_native(frame), self.header)
                        is_same = crc32(plane_bytes(planes)) == entry[1]
                        return chain([frame], self._decoded) if is_same else None
                    if frame.pts is None or frame.pts > entry[0]:
                        break
        return None

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        """The source's frames with their numbers, at the latest from the first selected one on."""
        if self._entry:
            found = self._from_entry(self._entry)
            if found:
                return enumerate(found, self._skip)
            self.close()
            self._open()
            self._first = None
        return enumerate(self._all_frames())

    def frames(self) -> Iterator[Planes]:
        """Planes of each selected frame."""
        newest = None
        for index, frame in self._numbered():
            is_later = frame.pts is not None and (newest is None or frame.pts > newest)
            self._is_ordered, newest = self._is_ordered and is_later, frame.pts
            if index < self._skip or (index - self._skip) % self._every:
                continue
            if self._limit is not None and index >= self._skip + self._limit * self._every:
                return
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{self.name}: frame {index} is {frame.width}x{frame.height}, the first was "
                    f"{self._size[0]}x{self._size[1]}"
                )
            # Of every so many each is shown for longer than its own duration.
            duration = (frame.duration or 0) if self._every == 1 else 0
            self._stamps.append(None if frame.pts is None else (frame.pts, duration))
            yield from_frame(self._to_native(frame), self.header)

    def _all_frames(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._decoded

    def _to_native(self, frame: VideoFrame) -> VideoFrame:
        name = frame.format.name
        if name.replace("yuvj", "yuv") == self._format:
            return frame
        return frame.reformat(format=self._format)


def count_until(source: str | Path, seconds: Fraction) -> int:
    """How many of its frames begin before that time, counted from the first frame's."""
    with VideoSource(source) as video:
        base = video._stream.time_base or 1 / video.header.frame_rate
        first, count = None, 0
        for number, frame in enumerate(video._all_frames()):
            at = (
                frame.pts
                if frame.pts is not None
                else round(number / video.header.frame_rate / base)
            )
            first = at if first is None else first
            if (at - first) * base >= seconds:
                break
            count += 1
        return count


def _is_seen_through(frame: VideoFrame) -> bool:
    plane = frame.reformat(format="rgba").planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return bool((rows[: frame.height, 3 : 4 * frame.width : 4] < 255).any())


def _code(value: object) -> int:
    """An H.273 code as libav reports it."""
    number = int(value)  # type: ignore[call-overload]
    return number if 0 <= number <= 255 else UNSPECIFIED

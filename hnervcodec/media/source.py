"""Reads video: anything libav opens becomes planar YCbCr, RGB or grey frames of 8 to 12 bits."""

from __future__ import annotations

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
from hnervcodec.media import demuxing
from hnervcodec.media.colour import reformatted
from hnervcodec.media.frame_rates import frame_rate, is_without_rate
from hnervcodec.media.frames import chroma_siting, display_of, frame_format, from_frame
from hnervcodec.media.timestamps import Stamp, straighten
from hnervcodec.media.video_decoder import Damage, VideoDecoder, counted
from hnervcodec.planes import Planes, plane_bytes

_JPEG_RANGE = 2  # libav's AVCOL_RANGE_JPEG
MAX_DIMENSION = 65535
EARLIER, MUCH_LATER = 2, 10  # seconds
Entry = tuple[int, int]  # a frame's pts, in its stream's time base, and the CRC-32 of its planes


def _is_rgb(pixels: VideoFormat) -> bool:
    """Whether a format's samples become red, green and blue without loss; CIE XYZ, as in digital
    cinema, has no other counterpart here either."""
    return pixels.is_rgb or pixels.has_palette or pixels.name.startswith("xyz")


def _native_format(name: str) -> tuple[int, int]:
    """(chroma_format, bit_depth) that loses least of libav's pixel format `name`."""
    pixels = VideoFormat(name, 64, 64)
    depth = max(component.bits for component in pixels.components)
    depth = 8 if depth <= 8 else 10 if depth <= 10 else 12
    if _is_rgb(pixels):
        return 3, depth
    components = [c for c in pixels.components if not c.is_alpha]
    if len(components) == 1:
        return 0, depth
    if components[1].width == 64:  # 4:4:0 too: 4:2:0 would halve its chroma's width
        return 3, depth
    return (1, depth) if components[1].height < 64 else (2, depth)


class VideoSource:
    """Frames of one video stream of `source`, a path or "-" for Y4M on standard input.

    stream: the number of that stream; default: the one that ffmpeg would choose. strict: whether
    damaged packets are refused, not skipped. `skip` frames are left out, then each `every`-th is
    taken, at most `limit` of them. entry: of the first of these frames, found there without
    decoding all that it follows.

    `header` describes these frames (its `frame_count` is 0), `display` how they are to be shown;
    `frames()` yields their planes once, and then `times()` and `damage` are known. `notes`: what of
    the source is lost, complete after `frames()`.

    SourceError for what cannot be opened, holds no video, or changes its geometry half-way;
    UsageError for a `stream` that is no video.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        skip: int = 0,
        limit: int | None = None,
        every: int = 1,
        entry: Entry | None = None,
        stream: int | None = None,
        strict: bool = False,
    ):
        self.name = "standard input" if str(source) == "-" else str(source)
        self._source, self._entry = str(source), entry
        self._skip, self._limit, self._every = skip, limit, every
        self._number, self._is_strict = stream, strict
        self._stamps: list[Stamp] = []  # of selected frames
        self._is_ordered = True
        self.notes: list[str] = []
        self._open()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(self._why_empty())
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self.header = self._describe(first)
            display = display_of(first)
            self.display = display or Display()
            self.notes = [*self._left_out, *self._losses(first, display)]
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        broken = 0
        if self._source == "-":
            self._container = demuxing.open_standard_input()
        else:
            self._container, broken = demuxing.open_counting(self._source)
        try:
            self._stream, self._left_out = demuxing.choose_video(
                self._container, self.name, self._number
            )
            if self._stream.codec_context is None:
                codec_name = demuxing.codec_name(self._container, self._stream)
                raise SourceError(f"{self.name}: there is no decoder for {codec_name}")
        except BaseException:
            self.close()
            raise
        self._decoder = VideoDecoder(
            self._container, self._stream, self.name, broken, strict=self._is_strict
        )
        self._decoded = self._decoder.frames()

    @property
    def damage(self) -> Damage:
        """What could not be read as it was, so far; its losses are known at the source's end."""
        return self._decoder.damage

    def _why_empty(self) -> str:
        advice = demuxing.pipe_advice(self._source)
        if self._decoder.last_error or self.damage.ended:
            error = self.damage.ended or self._decoder.last_error
            return f"cannot decode {self.name}: {error}{advice}"
        codec = demuxing.codec_name(self._container, self._stream)
        return f"{self.name} holds no video frames that the decoder of {codec} can read{advice}"

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source's file; more than once does no harm."""
        self._container.close()

    def _describe(self, frame: VideoFrame) -> VideoHeader:
        if max(frame.width, frame.height) > MAX_DIMENSION:
            raise SourceError(f"{self.name}: {frame.width}x{frame.height} frames are too large")
        name = frame.format.name
        chroma_format, bit_depth = _native_format(name)
        is_rgb = _is_rgb(frame.format)
        matrix = IDENTITY if is_rgb else _code(frame.colorspace)
        has_pts = self._decoder.has_pts
        rate = frame_rate(self._source, self._container, self._stream, has_pts)
        rate = rate.limit_denominator(1_000_000)
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
        # VP8 and VP9 hold it beside the picture in each packet, where libav's decoders leave it.
        is_beside = self._stream.metadata.get("alpha_mode") == "1"
        is_beside = is_beside or demuxing.has_alpha_beside(self._container, self._stream)
        if is_beside or _is_seen_through(frame):
            notes.append(_TRANSPARENCY)
        depth = max(component.bits for component in frame.format.components)
        is_same = frame.format.is_rgb or frame.format.has_palette
        is_same = is_same or frame.format.name.replace("yuvj", "yuv") == self._format
        if not is_same or depth > self.header.bit_depth:
            notes.append(f"{frame.format.name} is converted to {self._format}")
        if is_without_rate(self._source, self._container, self._stream):
            notes.append("the stream does not say its frame rate: 25 frames/s are taken")
        return notes

    def times(self) -> SegmentTimes | None:
        """When the frames that `frames()` has yielded are shown; None: at the constant rate. From 0
        on if `skip` leaves any out, else when the source shows them. Adds notes of timestamps that
        were missing or did not increase."""
        base, rate = self._stream.time_base, self.header.frame_rate
        if base is None or not any(pts is not None for pts, _ in self._stamps):
            return None
        stamps, missing, moved = straighten(self._stamps, 1 / (rate * base))
        if missing:
            self.notes.append(f"{counted(missing, 'timestamp')} missing: taken from the others")
        if moved:
            self.notes.append(f"{counted(moved, 'timestamp')} out of order: moved")
        start = self._origin if self._skip == 0 else stamps[0][0]
        try:
            return times_of(base, [(pts - start, duration) for pts, duration in stamps], rate)
        except ValueError:  # in the coarser time base that long videos need
            self.notes.append("timestamps are too close: frames come out at a constant rate")
            return None

    def window(self) -> tuple[Fraction, Fraction | None, Fraction | None]:
        """The source's time, in seconds, that is 0 here, and between which times the frames lie
        that `frames()` has yielded; None: from the very beginning, to the very end."""
        base = self._stream.time_base or Fraction(1)
        first, last = (0, 0), (0, 0)
        if any(pts is not None for pts, _ in self._stamps):
            stamps, _, _ = straighten(self._stamps, 1 / (self.header.frame_rate * base))
            first, last = stamps[0], stamps[-1]
        begin = None if self._skip == 0 else first[0] * base
        duration = max(last[1] * base, 1 / self.header.frame_rate)
        end = None if self._is_read_out else last[0] * base + duration
        return self._origin * base if begin is None else begin, begin, end

    @property
    def _origin(self) -> int:
        """Where time begins, in the stream's time base."""
        return round(demuxing.start(self._container) / (self._stream.time_base or 1))

    def entry(self, planes: Planes) -> Entry | None:
        """Where the frame is that `frames()` has just yielded; None if it has no timestamp."""
        pts, _ = self._stamps[-1]
        return None if pts is None else (pts, crc32(plane_bytes(planes)))

    @property
    def tells_frames_apart(self) -> bool:
        """Whether all of the source's frames have been seen, and their timestamps increase."""
        return self._is_ordered and self._is_read_out and not self._decoder.has_jumped

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
                self._decoder = self._decoder.restarted()
                self._decoded = self._decoder.frames(entry[0] + round(MUCH_LATER / base))
                for frame in self._decoded:
                    if frame.is_corrupt:  # for want of what lies before the key frame
                        continue
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
        """Yields the planes of each selected frame."""
        newest = None
        for index, frame in self._numbered():
            is_later = frame.pts is not None and (newest is None or frame.pts > newest)
            self._is_ordered, newest = self._is_ordered and is_later, frame.pts
            pts = self._decoder.shown_at(frame)
            if index < self._skip or (index - self._skip) % self._every:
                continue
            if self._limit is not None and index >= self._skip + self._limit * self._every:
                break
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{self.name}: frame {index} is {frame.width}x{frame.height}, the first was "
                    f"{self._size[0]}x{self._size[1]}"
                )
            # Of every so many each is shown for longer than its own duration.
            duration = (frame.duration or 0) if self._every == 1 else 0
            self._stamps.append((pts, duration))
            if _TRANSPARENCY not in self.notes and _is_seen_through(frame):
                self.notes.append(_TRANSPARENCY)
            yield from_frame(self._to_native(frame), self.header)
        self.notes += self.damage.notes()

    def _all_frames(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._decoded

    def _to_native(self, frame: VideoFrame) -> VideoFrame:
        name = frame.format.name
        if name.replace("yuvj", "yuv") == self._format:
            return frame
        if name.startswith("yuvj"):  # else swscale takes the result's range for another
            frame.color_range = _JPEG_RANGE
        return reformatted(frame, self._format)


def count_until(source: str | Path, seconds: Fraction, stream: int | None = None) -> int:
    """How many frames of a source begin before a time that counts from the first one's. stream: as
    `VideoSource` takes it."""
    with VideoSource(source, stream=stream) as video:
        base = video._stream.time_base or 1 / video.header.frame_rate
        first, count = None, 0
        for number, frame in enumerate(video._all_frames()):
            at = video._decoder.shown_at(frame)
            if at is None:
                at = round(number / video.header.frame_rate / base)
            first = at if first is None else first
            if (at - first) * base >= seconds:
                break
            count += 1
        return count


_TRANSPARENCY = "transparency is not coded"


def _is_seen_through(frame: VideoFrame) -> bool:
    """Whether any sample of a frame is transparent."""
    pixels = frame.format
    if not pixels.has_palette and not any(component.is_alpha for component in pixels.components):
        return False
    plane = reformatted(frame, "rgba").planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return bool((rows[: frame.height, 3 : 4 * frame.width : 4] < 255).any())


def _code(value: object) -> int:
    """An H.273 code as libav reports it."""
    number = int(value)  # type: ignore[call-overload]
    return number if 0 <= number <= 255 else UNSPECIFIED

"""Reading video: anything libav opens becomes planar YCbCr or grey frames of 8 to 12 bits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from hnervcodec.errors import SourceError
from hnervcodec.libav import from_frame, pixel_format, reason
from hnervcodec.planes import Planes
from hnervcodec.syntax import UNSPECIFIED, VideoHeader

_SMPTE170M = 6  # H.273 matrix code of BT.601, swscale's default for RGB sources
_JPEG_RANGE = 2  # libav's AVCOL_RANGE_JPEG
MAX_DIMENSION = 65535


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
    `header` describes these (its `frame_count` is 0); `frames()` yields their planes once.
    `notes`: what of the source a `.hnv` file does not carry.
    """

    def __init__(
        self, source: str | Path, *, skip: int = 0, limit: int | None = None, every: int = 1
    ):
        self.name = "standard input" if str(source) == "-" else str(source)
        self._skip, self._limit, self._every = skip, limit, every
        try:
            if str(source) == "-":
                self._container = av.open(sys.stdin.buffer, "r", format="yuv4mpegpipe")
            else:
                self._container = av.open(str(source), "r")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"cannot open {self.name}: {reason(error)}") from error
        # libav "plays" text files as terminal art.
        if not self._container.streams.video or self._container.format.name == "tty":
            self.close()
            raise SourceError(f"{self.name} holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoded = self._decode()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(f"{self.name} holds no video frames")
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self.header = self._describe(first)
            self.notes = self._losses(first)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            yield from self._container.decode(self._stream)
        except av.error.FFmpegError as error:
            raise SourceError(f"cannot decode {self.name}: {reason(error)}") from error

    def _describe(self, frame: VideoFrame) -> VideoHeader:
        if max(frame.width, frame.height) > MAX_DIMENSION:
            raise SourceError(f"{self.name}: {frame.width}x{frame.height} frames are too large")
        name = frame.format.name
        chroma_format, bit_depth = _native_format(name)
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        self._format = pixel_format(chroma_format, bit_depth)
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        rate = Fraction(rate).limit_denominator(1_000_000)
        aspect = self._stream.sample_aspect_ratio or Fraction(0)
        if max(aspect.numerator, aspect.denominator) > 65535:
            aspect = Fraction(0)
        return VideoHeader(
            width=frame.width,
            height=frame.height,
            chroma_format=chroma_format,
            frame_rate=(rate if rate > 0 else Fraction(25)) / self._every,
            bit_depth=bit_depth,
            full_range=not is_rgb and (name.startswith("yuvj") or frame.color_range == _JPEG_RANGE),
            colour_primaries=_code(frame.color_primaries),
            transfer_characteristics=_code(frame.color_trc),
            matrix_coefficients=_SMPTE170M if is_rgb else _code(frame.colorspace),
            sample_aspect=(aspect.numerator, aspect.denominator) if aspect else (0, 0),
        )

    def _losses(self, frame: VideoFrame) -> list[str]:
        notes = []
        streams = self._container.streams
        if streams.audio or streams.subtitles:
            notes.append("sound and subtitles are not coded")
        if frame.rotation:
            notes.append(f"the rotation by {frame.rotation} degrees is not coded")
        if frame.interlaced_frame:
            notes.append("interlaced frames are coded as if they were progressive")
        average, nominal = self._stream.average_rate, self._stream.guessed_rate
        if average and nominal and abs(average / nominal - 1) > 0.02:
            notes.append(f"timestamps are not coded: frames come out at {float(average):.5g} per s")
        if frame.format.name.replace("yuvj", "yuv") != self._format:
            notes.append(f"{frame.format.name} is converted to {self._format}")
        return notes

    def frames(self) -> Iterator[Planes]:
        """Planes of each selected frame."""
        for index, frame in enumerate(self._all_frames()):
            if index < self._skip or (index - self._skip) % self._every:
                continue
            if self._limit is not None and index >= self._skip + self._limit * self._every:
                return
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{self.name}: frame {index} is {frame.width}x{frame.height}, the first was "
                    f"{self._size[0]}x{self._size[1]}"
                )
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
        if frame.format.is_rgb or frame.format.has_palette:
            return frame.reformat(format=self._format, dst_colorspace=Colorspace.ITU601)
        return frame.reformat(format=self._format)


def _code(value: object) -> int:
    """An H.273 code as libav reports it."""
    number = int(value)  # type: ignore[call-overload]
    return number if 0 <= number <= 255 else UNSPECIFIED

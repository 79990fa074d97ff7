"""Where decoded frames go: sinks that take planes one frame at a time."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from av.video.frame import VideoFrame

from hnervcodec.errors import OutputError, UsageError
from hnervcodec.files import open_complete_or_absent
from hnervcodec.libav import RgbConverter, pixel_format, reason, to_frame
from hnervcodec.planes import Planes, plane_bytes
from hnervcodec.syntax import VideoHeader


class Sink(Protocol):
    """Takes decoded frames in output order."""

    def write(self, index: int, planes: Planes) -> None:
        """`index` is the frame's number in the .hnv file."""

    def close(self) -> None: ...


class RawSink:
    """Planar samples, one frame after the other; words are little-endian."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, index: int, planes: Planes) -> None:
        self._file.write(plane_bytes(planes))

    def close(self) -> None:
        self._file.flush()


class FrameMd5Sink:
    """A line `INDEX, MD5` per frame, over the bytes that `RawSink` would write."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, index: int, planes: Planes) -> None:
        digest = hashlib.md5(plane_bytes(planes), usedforsecurity=False).hexdigest()
        self._file.write(f"{index}, {digest}\n".encode())

    def close(self) -> None:
        self._file.flush()


def y4m_header(header: VideoHeader) -> bytes:
    """At most 79 bytes: older ffmpeg versions reject more."""
    depth = "" if header.bit_depth == 8 else f"p{header.bit_depth}"
    siting = {0: "mpeg2", 2: "paldv"}.get(header.chroma_siting, "jpeg")
    colour = {
        0: "mono" + depth.replace("p", ""),
        1: "420" + (depth or siting),
        2: "422" + depth,
        3: "444" + depth,
    }[header.chroma_format]
    rate, (num, den) = header.frame_rate, header.sample_aspect
    text = (
        f"YUV4MPEG2 W{header.width} H{header.height} F{rate.numerator}:{rate.denominator} "
        f"Ip A{num}:{den} C{colour}"
    )
    ranged = text + f" XCOLORRANGE={'FULL' if header.full_range else 'LIMITED'}"
    return (ranged if len(ranged) < 79 else text).encode() + b"\n"


class Y4mSink:
    """YUV4MPEG2, as `ffmpeg -i -` and x265 read it from a pipe."""

    def __init__(self, file: BinaryIO, header: VideoHeader):
        self._file = file
        self._start = y4m_header(header)

    def write(self, index: int, planes: Planes) -> None:
        self._file.write(self._start + b"FRAME\n" + plane_bytes(planes))
        self._start = b""

    def close(self) -> None:
        self._file.write(self._start)
        self._file.flush()


class LibavSink:
    """A playable H.264 .mp4, or a lossless FFV1 .mkv, through PyAV."""

    def __init__(self, path: Path, header: VideoHeader, container: str):
        self._header = header
        even = header.width % 2 == 0 and header.height % 2 == 0
        if container == "mp4":
            # Players want 8-bit 4:2:0, which H.264 has for even sizes only.
            codec, options = "libx264", {"crf": "12", "preset": "fast"}
            self._format = "yuv420p" if even else "yuv444p"
            muxer = "mp4"
        else:
            codec, options = "ffv1", {"level": "3", "slicecrc": "1"}
            self._format = pixel_format(header.chroma_format, header.bit_depth)
            muxer = "matroska"
        try:
            self._container = av.open(str(path), "w", format=muxer)
            stream: Any = self._container.add_stream(codec, rate=header.frame_rate)
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            raise OutputError(f"cannot write {path}: {reason(error)}") from error
        self._stream = stream
        self._stream.width, self._stream.height = header.width, header.height
        self._stream.pix_fmt = self._format
        self._stream.options = options
        context = self._stream.codec_context
        context.time_base = 1 / header.frame_rate
        if header.sample_aspect[1]:
            context.sample_aspect_ratio = Fraction(*header.sample_aspect)
        context.color_range = 2 if header.full_range else 1
        context.colorspace = header.matrix_coefficients
        context.color_primaries = header.colour_primaries
        context.color_trc = header.transfer_characteristics
        self._count = 0

    def write(self, index: int, planes: Planes) -> None:
        frame = to_frame(self._header, planes)
        if frame.format.name != self._format:
            frame = frame.reformat(format=self._format)
        frame.pts, frame.time_base = self._count, 1 / self._header.frame_rate
        self._count += 1
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            raise OutputError(f"cannot encode frame {index}: {reason(error)}") from error

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class PngSink:
    """One PNG per frame; `pattern` holds a %d conversion that takes the frame's index."""

    def __init__(self, pattern: str, header: VideoHeader):
        self._pattern, self._header = pattern, header
        self._to_rgb = RgbConverter(header, 8 if header.bit_depth == 8 else 16)

    def write(self, index: int, planes: Planes) -> None:
        path = Path(png_name(self._pattern, index))
        with open_complete_or_absent(path) as file:
            file.write(encode_png(self._header, self._to_rgb(planes)))

    def close(self) -> None:
        pass


def png_name(pattern: str, index: int) -> str:
    """The file name of frame `index`."""
    try:
        return pattern % index if "%" in pattern else pattern
    except (TypeError, ValueError) as error:
        raise UsageError(f"{pattern!r} is no pattern such as frames/%05d.png: {error}") from error


def encode_png(header: VideoHeader, rgb: np.ndarray) -> bytes:
    """A PNG file of uint8 or uint16 [H, W, 3]."""
    frame = VideoFrame(header.width, header.height, "rgb24" if rgb.itemsize == 1 else "rgb48be")
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    samples = rgb if rgb.itemsize == 1 else rgb.astype(">u2")
    rows[: header.height, : rgb[0].nbytes] = samples.view(np.uint8).reshape(header.height, -1)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height = header.width, header.height
    encoder.pix_fmt, encoder.time_base = frame.format.name, Fraction(1, 1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


_SUFFIXES = {
    ".y4m": "y4m", ".yuv": "raw", ".raw": "raw", ".framemd5": "framemd5", ".md5": "framemd5",
    ".png": "png", ".mp4": "mp4", ".mkv": "mkv",
}  # fmt: skip
STREAMED = ("y4m", "raw", "framemd5")  # formats that need nothing but a byte stream


def format_of(name: str) -> str:
    """The output format that a file name asks for; Y4M on a pipe."""
    suffix = Path(name).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(sorted(_SUFFIXES))
        raise UsageError(f"cannot tell a format from {name!r}: use --format, or one of {known}")
    return _SUFFIXES[suffix]


def open_stream_sink(file: BinaryIO, header: VideoHeader, name: str) -> Sink:
    """A sink for one of `STREAMED` that writes to `file`."""
    if name == "y4m":
        return Y4mSink(file, header)
    return RawSink(file) if name == "raw" else FrameMd5Sink(file)

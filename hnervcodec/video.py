"""Video files in and out: the only module that talks to PyAV.

Reading: anything libav opens becomes planar YCbCr or grey frames of 8 to 12 bits. Writing: sinks
that take decoded planes one frame at a time.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from hnervcodec.errors import OutputError, SourceError, UsageError
from hnervcodec.files import open_complete_or_absent
from hnervcodec.planes import Planes, plane_bytes, plane_shapes
from hnervcodec.syntax import UNSPECIFIED, VideoHeader

_CHROMA_FORMATS = ("gray", "yuv420p", "yuv422p", "yuv444p")
_SMPTE170M = 6  # H.273 matrix code of BT.601, swscale's default for RGB sources
_JPEG_RANGE = 2  # libav's AVCOL_RANGE_JPEG
MAX_DIMENSION = 65535


def pixel_format(chroma_format: int, bit_depth: int) -> str:
    """libav's name of a format that this codec knows."""
    suffix = "" if bit_depth == 8 else f"{bit_depth}le"
    return _CHROMA_FORMATS[chroma_format] + suffix


# ---------------------------------------------------------------- reading


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
            raise SourceError(f"cannot open {self.name}: {_reason(error)}") from error
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
            raise SourceError(f"cannot decode {self.name}: {_reason(error)}") from error

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


def from_frame(frame: VideoFrame, header: VideoHeader) -> Planes:
    """The planes of a libav frame that has the header's size and pixel format."""
    # Plane by plane, because VideoFrame.to_ndarray fails on odd widths.
    dtype = np.dtype(np.uint8 if header.bit_depth == 8 else "<u2")
    planes = []
    shapes = plane_shapes(header.width, header.height, header.chroma_format)
    for plane, (height, width) in zip(frame.planes, shapes, strict=False):
        rows = np.frombuffer(memoryview(plane), np.uint8)[: height * plane.line_size]
        rows = rows.reshape(height, plane.line_size)[:, : width * dtype.itemsize]
        planes.append(np.ascontiguousarray(rows).view(dtype))
    return tuple(planes)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).replace("\n", " ")


class FrameComparison:
    """libavfilter's psnr and ssim of pairs of frames, so that they are ffmpeg's."""

    def __init__(self, header: VideoHeader):
        self._header, self._count = header, 0
        self._graph = av.filter.Graph()
        form = VideoFormat(pixel_format(header.chroma_format, header.bit_depth))
        self._sources = [
            self._graph.add_buffer(
                width=header.width, height=header.height, time_base=Fraction(1, 25), format=form
            )
            for _ in range(2)
        ]
        names = ("split", "psnr", "ssim", "buffersink")
        split, psnr, ssim, sink = (self._graph.add(name) for name in names)
        distorted, reference = self._sources
        reference.link_to(split)
        distorted.link_to(psnr, 0, 0)
        split.link_to(psnr, 0, 1)
        psnr.link_to(ssim, 0, 0)
        split.link_to(ssim, 1, 1)
        ssim.link_to(sink)
        self._graph.configure()

    def __call__(self, reference: Planes, distorted: Planes) -> dict[str, float]:
        """`mse.y` and so on for u and v, `ssim.Y`, U, V and All."""
        for source, planes in zip(self._sources, (distorted, reference), strict=True):
            frame = to_frame(self._header, planes)
            frame.pts, frame.time_base = self._count, Fraction(1, 25)
            source.push(frame)
        self._count += 1
        found = self._graph.pull().metadata
        return {
            key.split(".", 2)[2] if ".psnr." in key else key.removeprefix("lavfi."): float(value)
            for key, value in found.items()
            if ".mse." in key or ".ssim." in key
        }


class SceneDetector:
    """How little each frame has to do with the one before, as libavfilter's scdet scores its luma:
    0..100."""

    def __init__(self, header: VideoHeader):
        self._shift = header.bit_depth - 8
        self._step = -(-max(header.width, header.height) // 640)  # of the samples looked at
        size = -(-header.width // self._step), -(-header.height // self._step)
        # scdet's vectors reach beyond a last column that does not fill them.
        self._size = size = -(-size[0] // 64) * 64, max(size[1], 16)
        self._count = 0
        self._graph = av.filter.Graph()
        chain = [
            self._graph.add_buffer(
                width=size[0], height=size[1], time_base=Fraction(1, 25), format=VideoFormat("gray")
            ),
            self._graph.add("scdet", "threshold=100"),
            self._graph.add("buffersink"),
        ]
        for one, other in pairwise(chain):
            one.link_to(other)
        self._graph.configure()

    def __call__(self, planes: Planes) -> float:
        luma = (planes[0][:: self._step, :: self._step] >> self._shift).astype(np.uint8)
        missing = self._size[1] - luma.shape[0], self._size[0] - luma.shape[1]
        luma = np.pad(luma, ((0, missing[0]), (0, missing[1])), mode="edge")
        frame = VideoFrame(*self._size, "gray")
        rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
        rows.reshape(-1, frame.planes[0].line_size)[: self._size[1], : self._size[0]] = luma
        frame.pts, frame.time_base = self._count, Fraction(1, 25)
        self._count += 1
        self._graph.push(frame)
        return float(self._graph.pull().metadata.get("lavfi.scd.score", "0"))


# ---------------------------------------------------------------- writing


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


def to_frame(header: VideoHeader, planes: Planes) -> VideoFrame:
    """A libav frame with the header's colour tags."""
    frame = VideoFrame(
        header.width, header.height, pixel_format(header.chroma_format, header.bit_depth)
    )
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(target), np.uint8)[: plane.shape[0] * target.line_size]
        rows = rows.reshape(plane.shape[0], target.line_size)
        samples = np.ascontiguousarray(plane).view(np.uint8)
        rows[:, : samples.shape[1]] = samples
    # libav's enumerations are H.273's codes; range is 1 for limited and 2 for full.
    frame.color_range = 2 if header.full_range else 1
    frame.colorspace = header.matrix_coefficients
    frame.color_primaries = header.colour_primaries
    frame.color_trc = header.transfer_characteristics
    return frame


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
            raise OutputError(f"cannot write {path}: {_reason(error)}") from error
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
            raise OutputError(f"cannot encode frame {index}: {_reason(error)}") from error

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


_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020",
             10: "bt2020"}  # fmt: skip
# H.273's ChromaLocType -> (horizontal, vertical) position of chroma in 1/256 of a luma sample
_SITES = {0: (0, 128), 1: (128, 128), 2: (0, 0), 3: (128, 0), 4: (0, 256), 5: (128, 256)}


class RgbConverter:
    """Planes -> RGB as ffmpeg's swscale makes it with accurate_rnd and full_chroma_int. An
    unspecified matrix is taken for BT.601, as ffmpeg does. For one thread at a time."""

    def __init__(self, header: VideoHeader, depth: int = 8):
        """depth: 8, or 16 for words of 0..65535."""
        self._header = header
        self._dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
        matrix = _MATRICES.get(header.matrix_coefficients, "bt601")
        arguments = (
            f"in_color_matrix={matrix}:in_range={'full' if header.full_range else 'limited'}"
            ":out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"
        )
        if header.chroma_format == 1 and header.chroma_siting in _SITES:
            across, down = _SITES[header.chroma_siting]
            arguments += f":in_h_chr_pos={across}:in_v_chr_pos={down}"
        self._graph = av.filter.Graph()
        self._graph.threads = 1  # a forked process could not join others when it frees this
        chain = [
            self._graph.add_buffer(
                width=header.width, height=header.height, time_base=Fraction(1, 1),
                format=VideoFormat(pixel_format(header.chroma_format, header.bit_depth)),
            ),
            self._graph.add("scale", arguments),
            self._graph.add("format", "rgb24" if depth == 8 else "rgb48le"),
            self._graph.add("buffersink"),
        ]  # fmt: skip
        for one, other in pairwise(chain):
            one.link_to(other)
        self._graph.configure()

    def __call__(self, planes: Planes) -> np.ndarray:
        """[H, W, 3], uint8 or uint16."""
        # The matrix and the range are the scaler's arguments: untagged, nothing contradicts them.
        frame = to_frame(self._header, planes)
        frame.colorspace, frame.color_range = UNSPECIFIED, 0
        self._graph.push(frame)
        made = cast(VideoFrame, self._graph.pull())
        plane = made.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        width = 3 * self._header.width * self._dtype.itemsize
        samples = np.ascontiguousarray(rows[: self._header.height, :width]).view(self._dtype)
        return samples.reshape(self._header.height, self._header.width, 3)


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


def library_versions() -> str:
    """PyAV's version and libavcodec's."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} (libavcodec {codec})"

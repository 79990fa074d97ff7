"""Where decoded frames go: sinks that take planes one frame at a time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from hnervcodec import matroska
from hnervcodec.ancillary import Display
from hnervcodec.encodings import Encoding, Paletted
from hnervcodec.errors import OutputError, UsageError
from hnervcodec.files import open_complete_or_absent
from hnervcodec.libav import (
    CHROMA_SITES,
    RgbConverter,
    frame_format,
    from_frame,
    pixel_format,
    reason,
    to_frame,
)
from hnervcodec.packets import StreamCopier
from hnervcodec.planes import Planes, plane_bytes
from hnervcodec.presentation import Presentation
from hnervcodec.syntax import UNSPECIFIED, VideoHeader

_SMPTE170M = 6  # H.273's matrix code of BT.601: what untagged video is taken for


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


class NpySink:
    """One numpy array [T, H, W, 3] in RGB, uint8, or uint16 of 0..65535 above 8 bits; T is the
    header's `frame_count`, so that nothing has to be held or written twice."""

    def __init__(self, file: BinaryIO, header: VideoHeader):
        self._file = file
        self._to_rgb = RgbConverter(header, 8 if header.bit_depth == 8 else 16)
        self._start = {
            "descr": "|u1" if header.bit_depth == 8 else "<u2", "fortran_order": False,
            "shape": (header.frame_count, header.height, header.width, 3),
        }  # fmt: skip
        self._is_begun = False

    def write(self, index: int, planes: Planes) -> None:
        if not self._is_begun:
            np.lib.format.write_array_header_1_0(self._file, self._start)
            self._is_begun = True
        self._file.write(self._to_rgb(planes).tobytes())

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
    """YUV4MPEG2, as `ffmpeg -i -` and x265 read it from a pipe. RGB becomes 4:4:4."""

    def __init__(self, file: BinaryIO, header: VideoHeader):
        self._file, self._header = file, header
        self._start = y4m_header(_yuv_header(header))

    def write(self, index: int, planes: Planes) -> None:
        if self._header.is_rgb:
            form = pixel_format(3, self._header.bit_depth)
            frame = _to_yuv(to_frame(self._header, planes), form)
            planes = from_frame(frame, self._header)
        self._file.write(self._start + b"FRAME\n" + plane_bytes(planes))
        self._start = b""

    def close(self) -> None:
        self._file.write(self._start)
        self._file.flush()


class LibavSink:
    """A video that other programs play, through PyAV, and what goes with its frames.

    `notes`: what of the frames and of what goes with them the file does not hold.
    """

    def __init__(self, path: Path, header: VideoHeader, encoding: Encoding, shown: Presentation):
        self._header, self._shown, self._path = header, shown, path
        self._format = encoding.pixel_format
        self._paletted = Paletted(header) if self._format == "pal8" else None
        options = _muxer_options(encoding.muxer, shown)
        try:
            self._container = av.open(
                str(path), "w", format=encoding.muxer, container_options=options
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {reason(error)}") from error
        try:
            stream: Any = self._container.add_stream(encoding.codec, rate=header.frame_rate)
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            message = f"{encoding.codec} does not go into {encoding.muxer}: {reason(error)}"
            raise OutputError(message) from error
        self._stream = stream
        self._describe()
        self._open(encoding)
        self.notes = self._losses(encoding)
        streams = [] if encoding.muxer == "gif" else shown.streams
        self._copier = StreamCopier(self._container, streams)
        self.notes += self._copier.notes
        light = shown.display.mastering, shown.display.content_light
        num, den = header.sample_aspect
        is_matroska = encoding.muxer == "matroska"
        self._is_amended = is_matroska and (num != den or light != (None, None))
        if self._is_amended:
            self._stream.metadata["title"] = matroska.RESERVED
        self._stamps = iter(shown.stamps)
        self._packets = iter(shown.packets if streams else ())
        self._waiting = next(self._packets, None)
        self._durations: dict[int, int] = {}

    def _losses(self, encoding: Encoding) -> list[str]:
        own, made = frame_format(self._header), self._format
        if encoding.muxer == "gif":
            return [".gif holds no sound"] if self._shown.streams else []
        if made in (own, "bgr0") or encoding.is_asked:
            return []
        return [f"{encoding.codec} writes {made}; .mkv keeps {own} exactly"]

    def _describe(self) -> None:
        header, shown = self._header, self._shown
        self._stream.width, self._stream.height = header.width, header.height
        self._stream.pix_fmt = self._format
        self._stream.time_base = shown.time_base
        context = self._stream.codec_context
        context.time_base = shown.time_base
        if header.sample_aspect[1]:
            context.sample_aspect_ratio = Fraction(*header.sample_aspect)
        tags = _yuv_header(header) if "yuv" in self._format else header
        context.color_range = 2 if tags.full_range else 1
        context.colorspace = tags.matrix_coefficients
        context.color_primaries = tags.colour_primaries
        context.color_trc = tags.transfer_characteristics
        if (shown.display.rotation, shown.display.mirrored) != (0, False):
            turn = 90 * shown.display.rotation
            self._stream.set_display_rotation(turn, hflip=shown.display.mirrored)

    def _open(self, encoding: Encoding) -> None:
        """The encoder says now what it does not take, and not after minutes of decoding."""
        self._stream.options = _encoder_options(self._header, encoding, self._shown.display)
        asked = " ".join(f"-{name} {value}" for name, value in encoding.options.items())
        try:
            self._stream.codec_context.open()
        except av.error.FFmpegError as error:
            size = f"{self._header.width}x{self._header.height} {self._format}"
            raise OutputError(
                f"{encoding.codec} refuses {size} with {asked or 'its defaults'}: {reason(error)}"
            ) from error
        for name in self._stream.codec_context.options:
            raise UsageError(f"{encoding.codec} has no option -{name}")

    def write(self, index: int, planes: Planes) -> None:
        pts, duration = next(self._stamps)
        frame = self._paletted(planes) if self._paletted else to_frame(self._header, planes)
        if self._header.is_rgb and "yuv" in self._format:
            frame = _to_yuv(frame, self._format)
        elif frame.format.name != self._format:
            frame = frame.reformat(format=self._format)
        frame.pts, frame.time_base = pts, self._shown.time_base
        self._durations[pts] = duration
        try:
            self._write_packets((pts + duration) * self._shown.time_base)
            self._mux(frame)
        except (av.error.FFmpegError, OverflowError, ValueError) as error:
            raise OutputError(f"cannot encode frame {index}: {reason(error)}") from error

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def _write_packets(self, until: Fraction | None) -> None:
        """What of the sound begins before `until` seconds; None: the rest."""
        while self._waiting is not None:
            base = self._shown.streams[self._waiting.stream].time_base
            if until is not None and self._waiting.pts * base >= until:
                return
            self._copier.write(self._waiting)
            self._waiting = next(self._packets, None)

    def close(self) -> None:
        try:
            self._mux(None)
            self._write_packets(None)
            self._container.close()
            if self._is_amended:
                matroska.amend(
                    self._path, self._header.width, self._header.height,
                    self._header.sample_aspect, self._shown.display,
                )  # fmt: skip
        except (av.error.FFmpegError, OverflowError, ValueError) as error:
            raise OutputError(f"cannot finish the file: {reason(error)}") from error


def _muxer_options(muxer: str, shown: Presentation) -> dict[str, str]:
    """So that an .mp4 keeps times in the source's time base; Matroska's ticks are milliseconds."""
    ticks = shown.time_base.denominator
    if muxer != "mp4" or shown.is_constant or ticks >= 1 << 31:
        return {}
    return {"video_track_timescale": str(ticks), "movie_timescale": str(ticks)}


_LIGHT = {  # of an encoder: the option for its own parameters, and their names
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
}


def _encoder_options(header: VideoHeader, encoding: Encoding, display: Display) -> dict[str, str]:
    """The encoding's, and those that tell what the header and the display do."""
    options = dict(encoding.options)
    if encoding.codec in _LIGHT:
        name, *marks = _LIGHT[encoding.codec]
        parts = _light(display, *marks)
        if parts:
            options[name] = ":".join([*filter(None, [options.get(name)]), *parts])
    is_sited = header.chroma_format in (1, 2) and header.chroma_siting < len(CHROMA_SITES)
    if is_sited and "yuv" in encoding.pixel_format:
        options.setdefault("chroma_sample_location", CHROMA_SITES[header.chroma_siting])
    return options


def _light(display: Display, mastering: str, cll: str) -> list[str]:
    """Parameters of x264 or x265, which name them differently."""
    parts = []
    if display.mastering:
        x_y = display.mastering.primaries
        pairs = [f"({x},{y})" for x, y in zip(x_y[::2], x_y[1::2], strict=True)]
        pairs.append(f"({display.mastering.max_luminance},{display.mastering.min_luminance})")
        names = ("G", "B", "R", "WP", "L")
        marks = "".join(name + pair for name, pair in zip(names, pairs, strict=True))
        parts.append(f"{mastering}={marks}")
    if display.content_light:
        parts.append(f"{cll}={display.content_light[0]},{display.content_light[1]}")
    return parts


def _to_yuv(frame: VideoFrame, form: str) -> VideoFrame:
    """RGB for a carrier that has none."""
    return frame.reformat(
        format=form, dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
    )


def _yuv_header(header: VideoHeader) -> VideoHeader:
    """What `_to_yuv` makes of frames."""
    if not header.is_rgb:
        return header
    return replace(header, matrix_coefficients=_SMPTE170M, full_range=False)


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


def losses(name: str, header: VideoHeader, shown: Presentation) -> list[str]:
    """What the format `name` does not hold of the frames and of what goes with them, and how to
    give it back with ffmpeg."""
    notes = []
    if name == "mkv":
        odd = [pts for pts, _ in _list(shown) if (1000 * pts * shown.time_base).denominator > 1]
        if odd and not shown.is_constant:
            notes.append(".mkv holds milliseconds, to which times are rounded; .mp4 is exact")
    is_turned = (shown.display.rotation, shown.display.mirrored) != (0, False)
    if name in ("png", "gif", "npy", "raw") and is_turned:
        turn = 90 * shown.display.rotation
        mirrored = " and then mirrored" if shown.display.mirrored else ""
        notes.append(
            f".{name} shows frames that are to be turned by {turn} degrees{mirrored} unturned"
        )
    if name == "y4m":
        notes += _y4m_notes(header, shown)
    return notes


def _list(shown: Presentation) -> list[tuple[int, int]]:
    return [] if shown.is_constant else list(shown.stamps)


def _mastering_notes(display: Display) -> list[str]:
    parts = _light(display, "master-display", "max-cll")
    if not parts:
        return []
    flags = f"-x265-params {':'.join(parts)}"
    return [f".y4m does not hold the light levels: ffmpeg {flags} does"]


def _y4m_notes(header: VideoHeader, shown: Presentation) -> list[str]:
    notes = []
    codes = {
        "-color_primaries": header.colour_primaries,
        "-color_trc": header.transfer_characteristics,
        "-colorspace": UNSPECIFIED if header.is_rgb else header.matrix_coefficients,
    }
    flags = [f"{flag} {code}" for flag, code in codes.items() if code != UNSPECIFIED]
    turn = f"-display_rotation {90 * shown.display.rotation}"
    turn += " -display_hflip" if shown.display.mirrored else ""
    if header.is_rgb:
        notes.append(".y4m holds no RGB: it becomes Y'CbCr 4:4:4 by BT.601; .mkv is exact")
    if flags:
        notes.append(f".y4m does not hold the colour codes: ffmpeg {' '.join(flags)} does")
    if (shown.display.rotation, shown.display.mirrored) != (0, False):
        notes.append(f".y4m does not hold the rotation: ffmpeg {turn} -i does")
    notes += _mastering_notes(shown.display)
    if not shown.is_constant:
        notes.append(".y4m does not hold timestamps: frames come out at the average rate")
    if shown.streams:
        notes.append(".y4m does not hold sound: .mp4 and .mkv do")
    return notes


_SUFFIXES = {
    ".y4m": "y4m", ".yuv": "raw", ".raw": "raw", ".framemd5": "framemd5", ".md5": "framemd5",
    ".npy": "npy", ".png": "png", ".mp4": "mp4", ".mkv": "mkv", ".webm": "webm", ".gif": "gif",
}  # fmt: skip
STREAMED = ("y4m", "raw", "npy", "framemd5")  # formats that need nothing but a byte stream


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
    if name == "npy":
        return NpySink(file, header)
    return RawSink(file) if name == "raw" else FrameMd5Sink(file)

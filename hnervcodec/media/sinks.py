"""Outputs that take decoded frames one at a time: the interface, `Sink`, and the formats that need
no encoder of video."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Self

import av
import numpy as np
from av.video.frame import VideoFrame

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.media.carrier_times import within_int32
from hnervcodec.media.colour import RgbConverter
from hnervcodec.media.frames import from_frame, libav_depth, pixel_format, to_frame, widened
from hnervcodec.media.output_codecs import to_yuv, yuv_header
from hnervcodec.media.output_formats import png_name
from hnervcodec.planes import Planes, plane_bytes
from hnervcodec.system.atomic_files import open_complete_or_absent


class Sink(ABC):
    """An output that takes decoded frames, in the order in which they are to be shown. Leaving its
    `with` block completes the output, unless an exception leaves it.

    notes: a sentence for each thing that the output does not hold of the frames or of what goes
    with them; known before the first frame is written.
    """

    notes: Sequence[str] = ()

    @abstractmethod
    def write(self, index: int, planes: Planes) -> None:
        """Appends a frame; `index` is its number in the .hnv file."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is still held back; no frames follow."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


class RawSink(Sink):
    """Writes planar samples and nothing else, one frame after the other: bytes, or little-endian
    words above 8 bits."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, index: int, planes: Planes) -> None:
        self._file.write(plane_bytes(planes))

    def close(self) -> None:
        self._file.flush()


class NpySink(Sink):
    """Writes one numpy array [T, H, W, 3] of RGB: uint8, or uint16 of 0..65535 above 8 bits. T is
    the header's `frame_count`: as many frames must follow."""

    def __init__(self, file: BinaryIO, header: VideoHeader):
        self._file = file
        self._to_rgb = RgbConverter(header, 8 if header.bit_depth == 8 else 16)
        self._array_header = {
            "descr": "|u1" if header.bit_depth == 8 else "<u2",
            "fortran_order": False,
            "shape": (header.frame_count, header.height, header.width, 3),
        }
        self._is_begun = False

    def write(self, index: int, planes: Planes) -> None:
        if not self._is_begun:
            np.lib.format.write_array_header_1_0(self._file, self._array_header)
            self._is_begun = True
        self._file.write(self._to_rgb(planes).tobytes())

    def close(self) -> None:
        self._file.flush()


class FrameMd5Sink(Sink):
    """Writes a line `INDEX, MD5` per frame, of the MD5 of the bytes that `RawSink` would write."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, index: int, planes: Planes) -> None:
        digest = hashlib.md5(plane_bytes(planes), usedforsecurity=False).hexdigest()
        self._file.write(f"{index}, {digest}\n".encode())

    def close(self) -> None:
        self._file.flush()


def y4m_header(header: VideoHeader) -> bytes:
    """The first line of a YUV4MPEG2 file, of at most 79 bytes: older ffmpeg versions reject
    more."""
    depth = "" if header.bit_depth == 8 else f"p{libav_depth(header.bit_depth)}"
    siting = {0: "mpeg2", 2: "paldv"}.get(header.chroma_siting, "jpeg")
    colour = {
        0: "mono" + depth.replace("p", ""),
        1: "420" + (depth or siting),
        2: "422" + depth,
        3: "444" + depth,
    }[header.chroma_format]
    rate, (num, den) = within_int32(header.frame_rate), header.sample_aspect
    text = (
        f"YUV4MPEG2 W{header.width} H{header.height} F{rate.numerator}:{rate.denominator} "
        f"Ip A{num}:{den} C{colour}"
    )
    with_range = text + f" XCOLORRANGE={'FULL' if header.full_range else 'LIMITED'}"
    return (with_range if len(with_range) < 79 else text).encode() + b"\n"


class Y4mSink(Sink):
    """Writes YUV4MPEG2, as `ffmpeg -i -` and x265 read it from a pipe. RGB becomes 4:4:4."""

    def __init__(self, file: BinaryIO, header: VideoHeader):
        self._file, self._header = file, header
        self._unwritten = y4m_header(yuv_header(header))

    def write(self, index: int, planes: Planes) -> None:
        if self._header.is_rgb:
            form = pixel_format(3, self._header.bit_depth)
            frame = to_yuv(to_frame(self._header, planes), form)
            planes = from_frame(frame, self._header)
        samples = plane_bytes(widened(self._header, planes))
        self._file.write(self._unwritten + b"FRAME\n" + samples)
        self._unwritten = b""

    def close(self) -> None:
        self._file.write(self._unwritten)
        self._file.flush()


class PngSink(Sink):
    """Writes a PNG file per frame, of 8 bits, or 16 above 8; `pattern` is a path with a %d
    conversion that takes the frame's index."""

    def __init__(self, pattern: str, header: VideoHeader):
        self._pattern, self._header = pattern, header
        self._to_rgb = RgbConverter(header, 8 if header.bit_depth == 8 else 16)

    def write(self, index: int, planes: Planes) -> None:
        path = Path(png_name(self._pattern, index))
        with open_complete_or_absent(path) as file:
            file.write(encode_png(self._header, self._to_rgb(planes)))

    def close(self) -> None:
        pass


def encode_png(header: VideoHeader, rgb: np.ndarray) -> bytes:
    """The bytes of a PNG file. rgb: uint8 or uint16 [H, W, 3] of the header's size."""
    frame = VideoFrame(header.width, header.height, "rgb24" if rgb.itemsize == 1 else "rgb48be")
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    samples = rgb if rgb.itemsize == 1 else rgb.astype(">u2")
    rows[: header.height, : rgb[0].nbytes] = samples.view(np.uint8).reshape(header.height, -1)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height = header.width, header.height
    encoder.pix_fmt, encoder.time_base = frame.format.name, Fraction(1, 1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])

"""Between planes and RGB, by libav's swscale."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import cast

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from hnervcodec.bitstream.headers import UNSPECIFIED, VideoHeader
from hnervcodec.media.frames import frame_format, from_frame, pixel_format, to_frame
from hnervcodec.planes import Planes

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020",
             10: "bt2020"}  # fmt: skip
# H.273's ChromaLocType -> (horizontal, vertical) position of chroma in 1/256 of a luma sample
_SITES = {0: (0, 128), 1: (128, 128), 2: (0, 0), 3: (128, 0), 4: (0, 256), 5: (128, 256)}


def _converter(header: VideoHeader, given: str, arguments: str, made: str) -> av.filter.Graph:
    """Frames of the header's size from one pixel format to another, by swscale."""
    graph = av.filter.Graph()
    graph.threads = 1  # a forked process could not join others when it frees this
    chain = [
        graph.add_buffer(
            width=header.width,
            height=header.height,
            time_base=Fraction(1, 1),
            format=VideoFormat(given),
        ),
        graph.add("scale", arguments),
        graph.add("format", made),
        graph.add("buffersink"),
    ]
    for one, other in pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph


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
        made = "rgb24" if depth == 8 else "rgb48le"
        self._graph = _converter(header, frame_format(header), arguments, made)

    def __call__(self, planes: Planes) -> np.ndarray:
        """[H, W, 3], uint8 or uint16."""
        if self._header.is_rgb and self._header.bit_depth == 8 == 8 * self._dtype.itemsize:
            green, blue, red = planes
            return np.stack([red, green, blue], axis=-1)
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


class PlaneConverter:
    """RGB -> planes of the header's format, the other way round than `RgbConverter`. For one thread
    at a time."""

    def __init__(self, header: VideoHeader):
        self._header = header
        matrix = _MATRICES.get(header.matrix_coefficients, "bt601")
        arguments = (
            f"out_color_matrix={matrix}:out_range={'full' if header.full_range else 'limited'}"
            ":flags=bicubic+accurate_rnd+full_chroma_inp"
        )
        if header.chroma_format == 1 and header.chroma_siting in _SITES:
            across, down = _SITES[header.chroma_siting]
            arguments += f":out_h_chr_pos={across}:out_v_chr_pos={down}"
        made = pixel_format(header.chroma_format, header.bit_depth)
        self._graph = _converter(header, "rgb24", arguments, made)

    def __call__(self, rgb: np.ndarray) -> Planes:
        """rgb: uint8 [H, W, 3]."""
        self._graph.push(VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))
        return from_frame(cast(VideoFrame, self._graph.pull()), self._header)

"""Conversion of decoded planes to RGB and of RGB to planes, by libav's swscale."""

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

# H.273's MatrixCoefficients -> swscale's name of the matrix
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020",
             10: "bt2020"}  # fmt: skip
# H.273's ChromaLocType -> (horizontal, vertical) position of chroma in 1/256 of a luma sample
_SITES = {0: (0, 128), 1: (128, 128), 2: (0, 0), 3: (128, 0), 4: (0, 256), 5: (128, 256)}


def _scale_graph(
    header: VideoHeader, source_format: str, filters: list[tuple[str, str]], target_format: str
) -> av.filter.Graph:
    """A filter graph that takes frames of the header's size from one of libav's pixel formats to
    another; `filters` of libavfilter, with their arguments."""
    graph = av.filter.Graph()
    graph.threads = 1  # a forked process could not join others when it frees this
    chain = [
        graph.add_buffer(
            width=header.width,
            height=header.height,
            time_base=Fraction(1, 1),
            format=VideoFormat(source_format),
        ),
        *(graph.add(name, arguments) for name, arguments in filters),
        graph.add("format", target_format),
        graph.add("buffersink"),
    ]
    for one, other in pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph


def reformatted(frame: VideoFrame, pixel_format: str) -> VideoFrame:
    """The frame in another of libav's pixel formats, with the same colour codes, that are not used
    for it: swscale refuses those that it does not know. So no samples of Y'CbCr become RGB here, or
    the other way round, as they should."""
    codes = frame.colorspace, frame.color_primaries, frame.color_trc
    frame.colorspace = frame.color_primaries = frame.color_trc = UNSPECIFIED
    other = frame.reformat(format=pixel_format)
    for each in (frame, other):
        each.colorspace, each.color_primaries, each.color_trc = codes
    return other


class RgbConverter:
    """Turns decoded planes into full-range RGB, as ffmpeg's swscale does with the flags
    accurate_rnd and full_chroma_int.

    The matrix, the range and the chroma siting are the header's; a matrix that swscale does not
    know, or an unspecified one, is taken for BT.601, as ffmpeg takes it. Primaries and transfer
    characteristics change nothing. An instance serves one thread at a time.

    header: of the planes to come.
    depth: 8, or 16 for words of 0..65535.
    crop: what to keep of the frame in RGB, (top, left, height, width) in pixels; None: all of it.
    resize: (height, width) that this is scaled to, by bicubic interpolation; None: as it is.
    shape: (height, width) of the result.
    """

    def __init__(
        self,
        header: VideoHeader,
        depth: int = 8,
        crop: tuple[int, int, int, int] | None = None,
        resize: tuple[int, int] | None = None,
    ):
        self._header = header
        self._dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
        self.shape = resize or (crop[2:] if crop else (header.height, header.width))
        # Planes as they are, but for their order.
        self._is_rgb = header.is_rgb and header.bit_depth == depth == 8 and not (crop or resize)
        matrix = _MATRICES.get(header.matrix_coefficients, "bt601")
        arguments = (
            f"in_color_matrix={matrix}:in_range={'full' if header.full_range else 'limited'}"
            ":out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"
        )
        if header.chroma_format == 1 and header.chroma_siting in _SITES:
            across, down = _SITES[header.chroma_siting]
            arguments += f":in_h_chr_pos={across}:in_v_chr_pos={down}"
        size = f"{resize[1]}:{resize[0]}:" if resize else ""
        filters = [("scale", size * (not crop) + arguments)]
        if crop:
            top, left, height, width = crop
            filters += [("format", "gbrp"), ("crop", f"{width}:{height}:{left}:{top}:exact=1")]
            filters += [("scale", size + "flags=bicubic+accurate_rnd")] * bool(resize)
        # Of the same samples, swscale makes planes three times as fast as pixels.
        target_format = "gbrp" if depth == 8 else "rgb48le"
        self._graph = _scale_graph(header, frame_format(header), filters, target_format)

    def __call__(self, planes: Planes) -> np.ndarray:
        """The frame as [H, W, 3], uint8 or, with depth 16, uint16."""
        if self._dtype.itemsize == 1:
            pixels = np.empty((*self.shape, 3), np.uint8)
            self.write(planes, pixels.transpose(2, 0, 1))
            return pixels
        plane = self._converted(planes).planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        height, width = self.shape
        samples = np.ascontiguousarray(rows[:height, : 6 * width]).view(self._dtype)
        return samples.reshape(height, width, 3)

    def write(self, planes: Planes, out: np.ndarray) -> None:
        """Writes the frame into `out`, uint8 [3, H, W] with any strides; with depth 8 only."""
        green, blue, red = planes if self._is_rgb else self._planar(self._converted(planes))
        out[0], out[1], out[2] = red, green, blue

    def _planar(self, frame: VideoFrame) -> list[np.ndarray]:
        height, width = self.shape
        return [
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, :width]
            for plane in frame.planes
        ]

    def _converted(self, planes: Planes) -> VideoFrame:
        # The matrix and the range are the scaler's arguments: untagged, nothing contradicts them.
        # Primaries and transfer would change nothing, but swscale refuses those it does not know.
        frame = to_frame(self._header, planes)
        frame.colorspace = frame.color_primaries = frame.color_trc = UNSPECIFIED
        frame.color_range = 0
        self._graph.push(frame)
        return cast(VideoFrame, self._graph.pull())


class PlaneConverter:
    """Turns 8-bit RGB into planes of the header's format: the inverse of `RgbConverter`, but for
    rounding and subsampled chroma. An instance serves one thread at a time."""

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
        target_format = pixel_format(header.chroma_format, header.bit_depth)
        filters = [("scale", arguments)]
        self._graph = _scale_graph(header, "rgb24", filters, target_format)

    def __call__(self, rgb: np.ndarray) -> Planes:
        """The planes of one frame. rgb: uint8 [H, W, 3], full range."""
        self._graph.push(VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))
        return from_frame(cast(VideoFrame, self._graph.pull()), self._header)

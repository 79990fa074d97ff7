"""Between planes and libav's frames, and the filters of libavfilter that we use."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import av
import av.logging
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from hnervcodec.bitstream.ancillary import Display, MasteringDisplay
from hnervcodec.bitstream.headers import SITING_UNSPECIFIED, UNSPECIFIED, VideoHeader
from hnervcodec.planes import Planes, plane_shapes

_CHROMA_FORMATS = ("gray", "yuv420p", "yuv422p", "yuv444p")


def pixel_format(chroma_format: int, bit_depth: int) -> str:
    """libav's name of a format that this codec knows."""
    suffix = "" if bit_depth == 8 else f"{bit_depth}le"
    return _CHROMA_FORMATS[chroma_format] + suffix


def frame_format(header: VideoHeader) -> str:
    """libav's name of the format of the header's frames."""
    name = pixel_format(header.chroma_format, header.bit_depth)
    return name.replace("yuv444p", "gbrp") if header.is_rgb else name


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


def to_frame(header: VideoHeader, planes: Planes) -> VideoFrame:
    """A libav frame with the header's colour tags."""
    frame = VideoFrame(header.width, header.height, frame_format(header))
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


CHROMA_SITES = ("left", "center", "topleft", "top", "bottomleft", "bottom")  # by H.273's code


def chroma_siting(container: Any, stream: Any) -> int:
    """H.273's code of where chroma samples lie, as libav tells them in its one-line description of
    the stream, the only place where PyAV shows it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)
    av.logging.set_libav_level(av.logging.VERBOSE)  # below it, libav leaves the siting out
    try:
        lines = container.dumps_format().splitlines()
    finally:
        av.logging.set_libav_level(av.logging.INFO)
        av.logging.set_level(level)
    mark = re.compile(rf"\s*Stream #0:{stream.index}\b")
    line = next((line for line in lines if mark.match(line)), "")
    facts = re.search(r"\byuv\w*\(([^)]*)\)", line)
    for fact in facts[1].split(", ") if facts else ():
        if fact in CHROMA_SITES:
            return CHROMA_SITES.index(fact)
    return SITING_UNSPECIFIED


def display_of(frame: VideoFrame) -> Display | None:
    """What a frame's side data say of how to show it; None: a rotation by no quarter turn."""
    found = {data.type.name: bytes(data) for data in cast(Any, frame.side_data)}
    mastering = content_light = None
    if "MASTERING_DISPLAY_METADATA" in found:
        mastering = _mastering(np.frombuffer(found["MASTERING_DISPLAY_METADATA"], "<i4"))
    if "CONTENT_LIGHT_LEVEL" in found:
        cll, fall = np.frombuffer(found["CONTENT_LIGHT_LEVEL"][:8], "<u4")
        content_light = min(int(cll), 65535), min(int(fall), 65535)
    turned: tuple[int, bool] | None = (0, False)
    if "DISPLAYMATRIX" in found:
        a, b, _, c, d = (int(v) for v in np.frombuffer(found["DISPLAYMATRIX"], "<i4")[:5])
        unit = 1 << 16
        turns = {
            (quarter, mirrored): matrix
            for quarter, (x, y) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
            for mirrored in (False, True)
            for sign in (-unit if mirrored else unit,)
            for matrix in ((sign * x, -unit * y, sign * y, unit * x),)
        }
        turned = next((turn for turn, m in turns.items() if m == (a, b, c, d)), None)
    return Display(*turned, mastering, content_light) if turned else None


def _mastering(words: np.ndarray) -> MasteringDisplay | None:
    """Of libav's AVMasteringDisplayMetadata: red, green, blue and white, then the luminances, all
    as pairs of numerator and denominator, and two flags."""
    if not (words[20] and words[21] and words[1:20:2].all()):
        return None
    values = [Fraction(int(n), int(d)) for n, d in words[:20].reshape(10, 2)]
    x_y = [min(max(round(50000 * value), 0), 65535) for value in values[:8]]
    low, high = (min(max(round(10000 * v), 0), (1 << 32) - 1) for v in values[8:])
    return MasteringDisplay((*x_y[2:6], *x_y[:2], *x_y[6:]), high, low)


def reason(error: Exception) -> str:
    """One line, of an exception of libav's."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).replace("\n", " ")


class FrameComparison:
    """libavfilter's ssim of pairs of frames, so that it is ffmpeg's."""

    def __init__(self, header: VideoHeader):
        # RGB is compared plane by plane like any other three.
        self._header = replace(header, matrix_coefficients=UNSPECIFIED)
        self._count = 0
        self._graph = av.filter.Graph()
        form = VideoFormat(pixel_format(header.chroma_format, header.bit_depth))
        self._sources = [
            self._graph.add_buffer(
                width=header.width, height=header.height, time_base=Fraction(1, 25), format=form
            )
            for _ in range(2)
        ]
        ssim, sink = (self._graph.add(name) for name in ("ssim", "buffersink"))
        for n, source in enumerate(self._sources):
            source.link_to(ssim, 0, n)
        ssim.link_to(sink)
        self._graph.configure()

    def __call__(self, reference: Planes, distorted: Planes) -> dict[str, float]:
        """Of Y, U, V and All, where there are such planes."""
        for source, planes in zip(self._sources, (distorted, reference), strict=True):
            frame = to_frame(self._header, planes)
            frame.pts, frame.time_base = self._count, Fraction(1, 25)
            source.push(frame)
        self._count += 1
        found = self._graph.pull().metadata
        prefix = "lavfi.ssim."
        return {
            key.removeprefix(prefix): float(value)
            for key, value in found.items()
            if key.startswith(prefix)
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


def library_versions() -> str:
    """PyAV's version and libavcodec's."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} (libavcodec {codec})"


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

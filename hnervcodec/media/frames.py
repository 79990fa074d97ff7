"""Converts between our planes (arrays) and libav's `VideoFrame`s, and reads what libav says of a
frame: its display matrix, light levels and chroma siting."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import Any, cast

import av
import av.logging
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from hnervcodec.bitstream.ancillary import Display, MasteringDisplay
from hnervcodec.bitstream.headers import SITING_UNSPECIFIED, VideoHeader
from hnervcodec.planes import Planes, plane_shapes

_CHROMA_FORMATS = ("gray", "yuv420p", "yuv422p", "yuv444p")


def pixel_format(chroma_format: int, bit_depth: int) -> str:
    """libav's name of the planar YCbCr or grey format of an H.273 chroma format (0: grey, 1: 4:2:0,
    2: 4:2:2, 3: 4:4:4) and a depth of 8 to 12 bits; see `libav_depth`."""
    suffix = "" if bit_depth == 8 else f"{libav_depth(bit_depth)}le"
    return _CHROMA_FORMATS[chroma_format] + suffix


def libav_depth(bit_depth: int) -> int:
    """The bits of a sample in libav's frames, which has formats of 8, 9, 10 and 12 bits: `to_frame`
    and `from_frame` take 11 to 12 and back."""
    return 12 if bit_depth == 11 else bit_depth


def widened(header: VideoHeader, planes: Planes) -> Planes:
    """The header's planes with `libav_depth` bits to a sample; no sample loses by it. At full range
    the largest one stays the largest."""
    if header.bit_depth == libav_depth(header.bit_depth):
        return planes
    lowest_bit = 10 if header.full_range else 15
    return tuple(plane << 1 | plane >> lowest_bit for plane in planes)


def frame_format(header: VideoHeader) -> str:
    """libav's name of the pixel format of the header's frames: of planes G, B and R for RGB."""
    name = pixel_format(header.chroma_format, header.bit_depth)
    return name.replace("yuv444p", "gbrp") if header.is_rgb else name


def from_frame(frame: VideoFrame, header: VideoHeader) -> Planes:
    """Copies the planes of a libav frame that has the header's size and pixel format: uint8, or
    uint16 above 8 bits, each [H, W]."""
    # Plane by plane, because VideoFrame.to_ndarray fails on odd widths.
    dtype = np.dtype(np.uint8 if header.bit_depth == 8 else "<u2")
    planes = []
    shapes = plane_shapes(header.width, header.height, header.chroma_format)
    for plane, (height, width) in zip(frame.planes, shapes, strict=False):
        rows = np.frombuffer(memoryview(plane), np.uint8)[: height * plane.line_size]
        rows = rows.reshape(height, plane.line_size)[:, : width * dtype.itemsize]
        planes.append(np.ascontiguousarray(rows).view(dtype))
    wide = libav_depth(header.bit_depth) - header.bit_depth
    return tuple(plane >> wide for plane in planes) if wide else tuple(planes)


def to_frame(header: VideoHeader, planes: Planes) -> VideoFrame:
    """Copies planes into a libav frame with the header's colour tags."""
    frame = VideoFrame(header.width, header.height, frame_format(header))
    for target, plane in zip(frame.planes, widened(header, planes), strict=True):
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


def stream_line(container: Any, number: int) -> str:
    """libav's description of a stream in one line, the only place where PyAV shows some facts."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)
    av.logging.set_libav_level(av.logging.VERBOSE)  # below it, libav leaves the siting out
    try:
        lines = container.dumps_format().splitlines()
    finally:
        av.logging.set_libav_level(av.logging.INFO)
        av.logging.set_level(level)
    mark = re.compile(rf"\s*Stream #0:{number}\b")
    return next((line for line in lines if mark.match(line)), "")


def chroma_siting(container: Any, stream: Any) -> int:
    """H.273's code of where chroma samples lie; `SITING_UNSPECIFIED` if the stream does not say."""
    line = stream_line(container, stream.index)
    facts = re.search(r"\byuv\w*\(([^)]*)\)", line)
    for fact in facts[1].split(", ") if facts else ():
        if fact in CHROMA_SITES:
            return CHROMA_SITES.index(fact)
    return SITING_UNSPECIFIED


def _unknown_side_data(kinds: type[SideDataType], number: int) -> SideDataType:
    """A kind of side data that PyAV has no name for, as EXIF: an exception otherwise, so that the
    frame's other side data could not be read either."""
    kind: Any = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number
    return cast(SideDataType, kind)


setattr(SideDataType, "_missing_", classmethod(_unknown_side_data))  # noqa: B010  (mypy)


def side_data_of(frame: VideoFrame) -> dict[str, bytes]:
    """A frame's side data by PyAV's names of their kinds."""
    return {data.type.name: bytes(data) for data in cast(Any, frame.side_data)}


def display_of(frame: VideoFrame) -> Display | None:
    """How a frame's side data say that it is to be shown: rotation, mirroring, light levels. None
    if it is rotated by something else than quarter turns, which `Display` cannot say."""
    side_data = side_data_of(frame)
    mastering = content_light = None
    if "MASTERING_DISPLAY_METADATA" in side_data:
        mastering = _mastering(np.frombuffer(side_data["MASTERING_DISPLAY_METADATA"], "<i4"))
    if "CONTENT_LIGHT_LEVEL" in side_data:
        cll, fall = np.frombuffer(side_data["CONTENT_LIGHT_LEVEL"][:8], "<u4")
        content_light = min(int(cll), 65535), min(int(fall), 65535)
    orientation: tuple[int, bool] | None = (0, False)
    if "DISPLAYMATRIX" in side_data:
        a, b, _, c, d = (int(v) for v in np.frombuffer(side_data["DISPLAYMATRIX"], "<i4")[:5])
        unit = 1 << 16
        turns = {
            (quarter, mirrored): matrix
            for quarter, (x, y) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
            for mirrored in (False, True)
            for sign in (-unit if mirrored else unit,)
            for matrix in ((sign * x, -unit * y, sign * y, unit * x),)
        }
        orientation = next((turn for turn, m in turns.items() if m == (a, b, c, d)), None)
    return Display(*orientation, mastering, content_light) if orientation else None


def _mastering(words: np.ndarray) -> MasteringDisplay | None:
    """Of libav's AVMasteringDisplayMetadata: red, green, blue and white, then the luminances, all
    as pairs of numerator and denominator, and two flags."""
    if not (words[20] and words[21] and words[1:20:2].all()):
        return None
    values = [Fraction(int(n), int(d)) for n, d in words[:20].reshape(10, 2)]
    x_y = [min(max(round(50000 * value), 0), 65535) for value in values[:8]]
    low, high = (min(max(round(10000 * v), 0), (1 << 32) - 1) for v in values[8:])
    return MasteringDisplay((*x_y[2:6], *x_y[:2], *x_y[6:]), high, low)


# Of libav's protocols these want no slashes.
_ADDRESS = re.compile(
    r"[\w.+-]+://|(async|cache|concat|concatf|crypto|data|fd|file|pipe|subfile|unix)[:,]"
)


def address(name: str) -> str:
    """How libav is to be told of the file `name`, or of such a pattern of pictures: it would read
    `take:1.mp4` as a protocol and an address. What is an address stays as it is."""
    is_file = ":" in name and (os.path.exists(name) or not _ADDRESS.match(name))
    return f"file:{name}" if is_file else name


def reason(error: Exception) -> str:
    """The message of an exception of libav's, as one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).replace("\n", " ")

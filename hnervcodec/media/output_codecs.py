"""Which muxer, encoder and pixel format write frames as a video, and with which options."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from hnervcodec.bitstream.headers import UNSPECIFIED, VideoHeader
from hnervcodec.errors import OutputError, UsageError
from hnervcodec.media.colour import RgbConverter
from hnervcodec.media.frames import frame_format
from hnervcodec.planes import Planes


@dataclass(frozen=True, slots=True)
class Encoding:
    """A muxer and an encoder of libav's, by their names there."""

    muxer: str
    codec: str
    pixel_format: str
    options: dict[str, str]
    is_asked: bool  # whether the user gave any option, and so knows what is written


# by output format: muxer, encoder, its options
_DEFAULTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp4": ("mp4", "libx264", {"crf": "12", "preset": "fast"}),
    "mov": ("mov", "libx264", {"crf": "12", "preset": "fast"}),
    "mkv": ("matroska", "ffv1", {"level": "3", "slicecrc": "1"}),
    "webm": ("webm", "libsvtav1", {"crf": "20", "preset": "8"}),
    "gif": ("gif", "gif", {}),
}
MOST_GIF_RATE = 50  # its times are hundredths of a second, and players hold single ones for longer
_SMPTE170M = 6  # H.273's matrix code of BT.601: what untagged video is taken for
_CODEC_OPTIONS = {"c", "codec", "vcodec", "c:v", "codec:v", "c:v:0", "codec:v:0"}
_NOT_ENCODERS = {
    "vf": "filters", "filter": "filters", "filter_complex": "filters", "r": "the frame rate",
    "s": "the size", "an": "sound", "ss": "times", "t": "times", "f": "the container",
}  # fmt: skip


def choose(name: str, header: VideoHeader, words: Sequence[str] = ()) -> Encoding:
    """The encoding of the header's frames in the format `name`, one of
    `output_formats.CONTAINERS`.

    words: encoder options as ffmpeg takes them, `["-c:v", "libx265", "-crf", "18"]`. With another
    encoder than the format's default, that encoder's defaults count for what is not given.
    UsageError: a wrong option, or frames that the format does not take; OutputError: no such
    encoder.
    """
    if name == "gif" and header.frame_rate > MOST_GIF_RATE:
        raise UsageError(
            f"a GIF shows at most {MOST_GIF_RATE} frames per second: decode with `fps` "
            f"{MOST_GIF_RATE} or less"
        )
    muxer, codec, options = _DEFAULTS[name]
    asked = _parse(words)
    wanted = asked.pop("pix_fmt", None)
    for word in _CODEC_OPTIONS & asked.keys():
        chosen = asked.pop(word)
        codec, options = chosen, options if chosen == codec else {}
    check_size(codec, header)
    formats = _pixel_formats(codec)
    if wanted is None:
        wanted = _default_format(name, codec, formats, header)
    elif wanted not in formats:
        raise UsageError(f"{codec} does not encode {wanted!r}: choose from {', '.join(formats)}")
    return Encoding(muxer, codec, wanted, _quieted(codec, {**options, **asked}), bool(words))


def check_size(codec: str, header: VideoHeader) -> None:
    """UsageError for frames with which an encoder would never come to an end."""
    sides = header.width, header.height
    if codec == "libsvtav1" and min(sides) <= 24 and max(sides) > 64:
        raise UsageError(
            f"libsvtav1 does not end with frames of {header.width}x{header.height}: choose another "
            "encoder, such as libvpx-vp9 or libx264"
        )


def _parse(words: Sequence[str]) -> dict[str, str]:
    """Options by name, of alternating names and values. A stream specifier, as in -preset:v, is
    dropped, since there is one stream only."""
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not re.fullmatch(r"-[A-Za-z_][\w:.-]*", word):
            raise UsageError(f"{word!r} is no encoder option such as -crf 18")
        name = word[1:]
        plain = re.sub(r":v(:0)?$", "", name)
        if plain in _NOT_ENCODERS:
            raise UsageError(
                f"{word} is no option of an encoder: for {_NOT_ENCODERS[plain]} pipe into ffmpeg "
                "(hnv help pipes)"
            )
        value = next(rest, None)
        if value is None:
            raise UsageError(f"{word} lacks its value")
        options[name if name in _CODEC_OPTIONS else plain] = value
    return options


def _pixel_formats(codec: str) -> list[str]:
    """libav's names of the pixel formats that an encoder takes; empty if it does not say."""
    try:
        found = av.Codec(codec, "w")
    except ValueError as error:
        raise OutputError(f"libav here has no encoder {codec!r}") from error
    if found.type != "video":
        raise UsageError(f"{codec} is no encoder of video")
    return [form.name for form in found.video_formats or ()]


def _default_format(name: str, codec: str, formats: list[str], header: VideoHeader) -> str:
    """The pixel format that loses least of the header's frames and that players take."""
    own = frame_format(header)
    if name in ("mp4", "mov") and codec == "libx264":
        # Players want 8-bit 4:2:0, which H.264 has for even sizes only.
        return "yuv420p" if header.width % 2 == header.height % 2 == 0 else "yuv444p"
    if codec == "gif":
        return "pal8"
    if codec == "ffv1" and own == "gbrp":
        return "bgr0"  # the form in which FFV1 has 8-bit RGB
    if own in formats or not formats:
        return own
    best, _ = find_best_pix_fmt_of_list(formats, own)
    return best.name if best else formats[0]


def _quieted(codec: str, options: dict[str, str]) -> dict[str, str]:
    """The options, with what keeps some encoders from printing on their own."""
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # it says no more than its return code does
    if codec == "libx265":
        others = options.get("x265-params")
        options = {**options, "x265-params": "log-level=error" + (f":{others}" if others else "")}
    return options


class Paletted:
    """Turns planes into pal8 frames, each with the 256 colours that suit it best, so that no more
    than one frame is held. An instance serves one thread at a time."""

    def __init__(self, header: VideoHeader):
        self._to_rgb = RgbConverter(header)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=header.width,
            height=header.height,
            time_base=Fraction(1, 1),
            format=VideoFormat("rgb24"),
        )
        split = self._graph.add("split")
        palette = self._graph.add("palettegen", "stats_mode=single")
        # An ordered pattern stands still where the video does; diffused errors would flicker.
        use = self._graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        for one, other in pairwise((source, split, use, self._graph.add("buffersink"))):
            one.link_to(other)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        self._graph.configure()
        self._count = 0

    def __call__(self, planes: Planes) -> VideoFrame:
        rgb = np.ascontiguousarray(self._to_rgb(planes))
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, self._count = self._count, self._count + 1
        self._graph.push(frame)
        paletted = self._graph.pull()
        assert isinstance(paletted, VideoFrame)  # as video was pushed
        return paletted


def to_yuv(frame: VideoFrame, pixel_format: str) -> VideoFrame:
    """An RGB frame as limited-range BT.601 in libav's `pixel_format`, for formats without RGB."""
    frame.color_primaries = frame.color_trc = UNSPECIFIED  # swscale does not know all of them
    return frame.reformat(
        format=pixel_format, dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
    )


def yuv_header(header: VideoHeader) -> VideoHeader:
    """The header of what `to_yuv` makes of the frames, where they are RGB; else the same one."""
    if not header.is_rgb:
        return header
    return replace(header, matrix_coefficients=_SMPTE170M, full_range=False)

"""Decoded frames, and what goes with them, as a file that other programs play."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from hnervcodec.bitstream.ancillary import Display
from hnervcodec.bitstream.headers import IDENTITY, UNSPECIFIED, VideoHeader
from hnervcodec.errors import OutputError, UsageError
from hnervcodec.media import matroska
from hnervcodec.media.carrier_times import held_times, within_int32
from hnervcodec.media.colour import reformatted
from hnervcodec.media.frames import CHROMA_SITES, frame_format, reason, to_frame
from hnervcodec.media.output_codecs import Encoding, Paletted, to_yuv, yuv_header
from hnervcodec.media.output_formats import name_of
from hnervcodec.media.presentation import Presentation
from hnervcodec.media.sinks import Sink
from hnervcodec.media.stream_copier import StreamCopier
from hnervcodec.planes import Planes

_SVT_MOST_RATE = Fraction(240)  # frames per second
# Frames that x265 holds back for B frames; of a video that ends before, it gives decoding times
# that it never set (seen in 4.1 by libavcodec 62).
_X265_DELAY = 2


class MuxerSink(Sink):
    """Encodes frames with another codec and muxes them with their sound and subtitles, by PyAV.

    Everything that the muxer or the encoder refuses is told when the sink is made.
    """

    def __init__(self, path: Path, header: VideoHeader, encoding: Encoding, shown: Presentation):
        if header.matrix_coefficients == IDENTITY and not header.is_rgb:
            header = replace(header, matrix_coefficients=UNSPECIFIED)  # it says nothing of Y'CbCr
        self._header, self._path = header, path
        self._shown, notes = held_times(encoding.muxer, header, shown)
        self.notes: list[str] = notes
        self._format = encoding.pixel_format
        self._paletted = Paletted(header) if self._format == "pal8" else None
        options = _muxer_options(encoding.muxer, self._shown)
        try:
            self._container = av.open(
                str(path), "w", format=encoding.muxer, container_options=options
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {reason(error)}") from error
        try:
            stream: Any = self._container.add_stream(encoding.codec, rate=_rate(header, encoding))
        except (av.error.FFmpegError, ValueError) as error:
            message = f"{encoding.codec} does not go into {encoding.muxer}: {reason(error)}"
            raise OutputError(message) from error
        self._stream = stream
        self._describe()
        self._open(encoding)
        self.notes += self._losses(encoding)
        streams = [] if encoding.muxer == "gif" else shown.streams
        self._copier = StreamCopier(self._container, streams, self._shown.packets)
        self.notes += self._copier.notes
        self._amendments = dict(self._copier.amendments)
        light = shown.display.mastering, shown.display.content_light
        num, den = header.sample_aspect
        if encoding.muxer == "matroska" and (num != den or light != (None, None)):
            self._stream.metadata["title"] = matroska.reserved()
            self._amendments[self._stream.index] = partial(
                matroska.with_display,
                width=header.width,
                height=header.height,
                aspect=header.sample_aspect,
                display=shown.display,
            )
        self._start(encoding)
        self._stamps = iter(self._shown.stamps)
        self._durations: dict[int, int] = {}

    def _losses(self, encoding: Encoding) -> list[str]:
        own = frame_format(self._header)
        if encoding.muxer == "gif":
            return [".gif holds no sound"] if self._shown.streams else []
        if self._format in (own, "bgr0") or encoding.is_asked:
            return []
        return [f"{encoding.codec} writes {self._format}; .mkv keeps {own} exactly"]

    def _describe(self) -> None:
        """Gives the stream the header's size, colours, aspect and rotation."""
        header, shown = self._header, self._shown
        self._stream.width, self._stream.height = header.width, header.height
        self._stream.pix_fmt = self._format
        self._stream.time_base = shown.time_base
        context = self._stream.codec_context
        context.time_base = shown.time_base
        if header.sample_aspect[1]:
            context.sample_aspect_ratio = Fraction(*header.sample_aspect)
        tags = yuv_header(header) if "yuv" in self._format else header
        context.color_range = 2 if tags.full_range else 1
        context.colorspace = tags.matrix_coefficients
        context.color_primaries = tags.colour_primaries
        context.color_trc = tags.transfer_characteristics
        if (shown.display.rotation, shown.display.mirrored) != (0, False):
            turn = 90 * shown.display.rotation
            self._stream.set_display_rotation(turn, hflip=shown.display.mirrored)

    def _open(self, encoding: Encoding) -> None:
        """Opens the encoder, so that it refuses now what it does not take, and not after minutes of
        decoding."""
        options = _encoder_options(self._header, encoding, self._shown.display)
        context = self._stream.codec_context
        refusal = self._try_to_open(options)
        if refusal and encoding.codec == "ffv1":  # small frames do not go into several slices
            refusal = self._try_to_open({"slices": "1", **options})
        codes = context.color_primaries, context.color_trc, context.colorspace
        if refusal and codes != (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED):
            context.color_primaries = context.color_trc = UNSPECIFIED
            if not self._header.is_rgb:
                context.colorspace = UNSPECIFIED
            refusal = self._try_to_open(options)
            self.notes.append(f"{encoding.codec} does not take the colour codes {codes}")
        if refusal:
            size = f"{self._header.width}x{self._header.height} {self._format}"
            rate = f"{self._header.frame_rate} frames per second"
            asked = " ".join(f"-{name} {value}" for name, value in encoding.options.items())
            raise OutputError(
                f"{encoding.codec} refuses {size} at {rate} with {asked or 'its defaults'}: "
                f"{reason(refusal)}"
            ) from refusal
        for name in context.options:
            raise UsageError(f"{encoding.codec} has no option -{name}")

    def _try_to_open(self, options: dict[str, str]) -> Exception | None:
        """Opens the encoder with these options; returns what libav has against it."""
        self._stream.options = options
        try:
            self._stream.codec_context.open()
        except av.error.FFmpegError as error:
            return error
        return None

    def _start(self, encoding: Encoding) -> None:
        """Writes the file's header, so that the muxer refuses now what it does not take."""
        try:
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            name = name_of(encoding.muxer)
            raise OutputError(
                f".{name} does not hold this video by {encoding.codec}: {reason(error)}"
            ) from error

    def write(self, index: int, planes: Planes) -> None:
        pts, duration = next(self._stamps)
        frame = self._paletted(planes) if self._paletted else to_frame(self._header, planes)
        if self._header.is_rgb and "yuv" in self._format:
            frame = to_yuv(frame, self._format)
        elif frame.format.name != self._format:
            frame = reformatted(frame, self._format)
        frame.pts, frame.time_base = pts, self._shown.time_base
        self._durations[pts] = duration
        try:
            self._copier.write((pts + duration) * self._shown.time_base)
            self._mux(frame)
        except BrokenPipeError:  # also one of libav's errors
            raise
        except (av.error.FFmpegError, OverflowError, ValueError) as error:
            codec, name = self._stream.codec_context.name, name_of(self._container.format.name)
            message = f"cannot write frame {index} by {codec} into .{name}: {reason(error)}"
            raise OutputError(message) from error

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def close(self) -> None:
        try:
            self._mux(None)
            self._copier.write(None)
            self._container.close()
            if self._amendments:
                matroska.amend(self._path, self._amendments)
        except BrokenPipeError:
            raise
        except (av.error.FFmpegError, OverflowError, ValueError) as error:
            name = name_of(self._container.format.name)
            raise OutputError(f"cannot finish the .{name}: {reason(error)}") from error


def _rate(header: VideoHeader, encoding: Encoding) -> Fraction:
    """The frame rate that the encoder is told; when frames are shown, their timestamps say."""
    rate = within_int32(header.frame_rate)
    return min(rate, _SVT_MOST_RATE) if encoding.codec == "libsvtav1" else rate


def _muxer_options(muxer: str, shown: Presentation) -> dict[str, str]:
    """Options with which .mp4 and .mov keep times in the source's time base; Matroska's ticks are
    milliseconds whatever one asks for."""
    ticks = shown.time_base.denominator
    if muxer not in ("mp4", "mov") or shown.is_constant:
        return {}
    return {"video_track_timescale": str(ticks), "movie_timescale": str(ticks)}


_LIGHT = {  # of an encoder: the option for its own parameters, and their names
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
}


def _encoder_options(header: VideoHeader, encoding: Encoding, display: Display) -> dict[str, str]:
    """The encoding's options, and those that pass on light levels and chroma siting."""
    options = dict(encoding.options)
    if encoding.codec == "libx265" and 0 < header.frame_count <= _X265_DELAY:
        options.setdefault("bf", "0")
    if encoding.codec in _LIGHT:
        name, *marks = _LIGHT[encoding.codec]
        parts = light_parameters(display, *marks)
        if parts:
            options[name] = ":".join([*filter(None, [options.get(name)]), *parts])
    is_sited = header.chroma_format in (1, 2) and header.chroma_siting < len(CHROMA_SITES)
    if is_sited and "yuv" in encoding.pixel_format:
        options.setdefault("chroma_sample_location", CHROMA_SITES[header.chroma_siting])
    return options


def light_parameters(display: Display, mastering: str, cll: str) -> list[str]:
    """The light levels as parameters of x264 or x265. mastering, cll: the encoder's names of
    them."""
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

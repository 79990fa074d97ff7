"""Other codecs on the same frames, through libav, to compare with."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import UsageError
from hnervcodec.media.carrier_times import within_int32
from hnervcodec.media.frames import frame_format, from_frame, reason, to_frame
from hnervcodec.media.output_codecs import check_size
from hnervcodec.planes import Planes
from hnervcodec.system.isolated import run_isolated


@dataclass(frozen=True, slots=True)
class Codec:
    """What we know of one of libav's encoders."""

    library: str  # libav's name
    muxer: str  # of the elementary stream, so that no container's bytes count against a codec
    preset: str  # the slow one that it is compared at
    worst: float  # highest constant rate factor
    step: float  # how finely that is searched
    silencing: tuple[
        tuple[str, str], ...
    ] = ()  # options that keep its remarks out of log and stream


CODECS = {
    "x264": Codec("libx264", "h264", "veryslow", 51, 0.4),
    "x265": Codec("libx265", "hevc", "slow", 51, 0.4, (("x265-params", "log-level=none:info=0"),)),
    "svtav1": Codec("libsvtav1", "obu", "5", 63, 1),
}
_BY_LIBRARY = {codec.library: codec for codec in CODECS.values()}


@dataclass
class Coded:
    """What a codec made of a clip: the size of its stream, and the frames decoded from it again."""

    bytes: int  # of the elementary stream
    decoded: list[Planes]
    encode_seconds: float
    decode_seconds: float
    crf: str = ""  # the constant rate factor, if that was searched for


def write_libav(
    target: str | Path | io.BytesIO,
    header: VideoHeader,
    frames: list[Planes],
    library: str,
    options: dict[str, str],
    muxer: str = "mp4",
) -> None:
    """Encodes `frames` with libav's encoder `library` into the container format `muxer`; options:
    the encoder's own."""
    name = target if isinstance(target, io.BytesIO) else str(target)
    with av.open(name, "w", format=muxer) as container:
        stream: Any = container.add_stream(
            library, rate=within_int32(header.frame_rate), options=options
        )
        stream.width, stream.height = header.width, header.height
        stream.pix_fmt = frame_format(header)
        # As ffmpeg does: slices, which PyAV would ask for, cost x264 bytes
        # (tools/results/rate_distortion.md says how many).
        stream.codec_context.thread_type = "FRAME"
        for n, planes in enumerate(frames):
            frame = to_frame(header, planes)
            frame.pts, frame.time_base = n, 1 / within_int32(header.frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def code(library: str, header: VideoHeader, frames: list[Planes], options: dict[str, str]) -> Coded:
    """What one of libav's encoders makes of the frames; `options`: its own (crf, preset ...).
    UsageError if it cannot code such frames, HnervError if it crashed."""
    check_size(library, header)
    return run_isolated(library, _code, _BY_LIBRARY[library], header, frames, options)


def code_in_groups(
    path: str | Path,
    name: str,
    header: VideoHeader,
    frames: list[Planes],
    options: dict[str, str],
    gop: int,
) -> Coded:
    """Writes an MP4 file of CODECS[name] with `gop` frames from a key frame to the next, closed
    groups, tuned for PSNR; `options`: its own beside (crf, preset). UsageError if it cannot code
    such frames, HnervError if it crashed."""
    codec = CODECS[name]
    check_size(codec.library, header)
    special = {
        "x264": {"g": f"{gop}", "tune": "psnr"},
        "x265": {
            "g": f"{gop}",
            "tune": "psnr",
            "x265-params": "log-level=none:info=0:open-gop=0",
        },
        # libav takes no groups of one frame for SVT-AV1.
        "svtav1": {"svtav1-params": f"tune=1:keyint={gop}"},
    }[name]
    return run_isolated(
        codec.library, _code_in_groups, path, codec, header, frames, options | special
    )


def _code_in_groups(
    path: str | Path,
    codec: Codec,
    header: VideoHeader,
    frames: list[Planes],
    options: dict[str, str],
) -> Coded:
    os.environ.setdefault("SVT_LOG", "0")
    try:
        start = time.monotonic()
        write_libav(path, header, frames, codec.library, options)
        encoded = time.monotonic()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            size, decoded = len(stream.codec_context.extradata or b""), list[Planes]()
            for packet in container.demux(stream):
                size += packet.size
                decoded += [_read(frame, header) for frame in packet.decode()]
        return Coded(size, decoded, encoded - start, time.monotonic() - encoded)
    except (av.error.FFmpegError, ValueError) as error:
        raise UsageError(f"{codec.library} cannot code that: {reason(error)}") from error


def _code(
    codec: Codec, header: VideoHeader, frames: list[Planes], options: dict[str, str]
) -> Coded:
    os.environ.setdefault("SVT_LOG", "0")  # it says no more than its return code does
    try:
        stream = io.BytesIO()
        start = time.monotonic()
        write_libav(
            stream, header, frames, codec.library, options | dict(codec.silencing), codec.muxer
        )
        encoded = time.monotonic()
        size = stream.tell()
        stream.seek(0)
        with av.open(stream, "r", format=codec.muxer) as container:
            container.streams.video[0].thread_type = "AUTO"
            decoded = [_read(frame, header) for frame in container.decode(video=0)]
        finished = time.monotonic()
    except (av.error.FFmpegError, ValueError) as error:
        form = frame_format(header)
        raise UsageError(
            f"{codec.library} cannot code {header.width}x{header.height} {form}: {reason(error)}"
        ) from error
    return Coded(size, decoded, encoded - start, finished - encoded)


def _read(frame: VideoFrame, header: VideoHeader) -> Planes:
    made = frame.format.name.replace("yuvj", "yuv")
    if made != frame_format(header):
        raise ValueError(f"it makes {made} of that")
    return from_frame(frame, header)


def code_at(
    name: str,
    header: VideoHeader,
    frames: list[Planes],
    size: int,
    preset: str = "",
    on_trial: Callable[[Coded], None] = lambda coded: None,
) -> Coded:
    """The best result of CODECS[name] that is not larger than `size` bytes, by bisection of the
    constant rate factor; that of the worst factor if even that is larger. on_trial: called with
    each trial's result."""
    codec = CODECS[name]

    def at(crf: float) -> Coded:
        options = {"crf": f"{crf:.3f}", "preset": preset or codec.preset}
        coded = code(codec.library, header, frames, options)
        coded.crf = options["crf"]
        on_trial(coded)
        return coded

    low, high = 0.0, codec.worst
    best = at(high)
    while high - low > codec.step:
        crf = (low + high) / 2
        coded = at(crf)
        if coded.bytes <= size:
            best, high = coded, crf
        else:
            low = crf
    return best


def check(name: str, header: VideoHeader, frame: Planes) -> None:
    """UsageError if libav lacks CODECS[name], or if that cannot code such frames."""
    library = CODECS[name].library
    if library not in av.codecs_available:
        raise UsageError(f"PyAV has no {library} here: leave {name} out of `codecs`")
    code(library, header, [frame], {"preset": CODECS[name].preset})


def versions() -> str:
    """The version of libav, which all these codecs come with."""
    return f"PyAV {av.__version__} ffmpeg {av.ffmpeg_version_info}"

"""Real clips and classical codecs, for the demo and the measurements in this folder."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np

from hnervcodec.libav import from_frame, to_frame
from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes
from hnervcodec.syntax import VideoHeader
from hnervcodec.video import VideoSource

ROOT = Path(__file__).resolve().parent.parent
EXCERPT = ROOT / "tests/data/bunny.mp4"
Filters = tuple[tuple[str, str], ...]  # a libavfilter chain: (name, arguments)
_CROP = ("crop", "1280:640")  # of the HNeRV paper
BUNNY_320: Filters = (_CROP, ("scale", "320:160:flags=lanczos"))
BIKES_320: Filters = (("scale", "320:-2:flags=lanczos"), ("crop", "320:128"))  # without its bars
# The standard clips: file of tools/clips, filters.
CLIPS: dict[str, tuple[str, Filters]] = {
    "carphone": ("carphone_pristine.mp4", ()),
    "bunny320": ("bigbuckbunny.mp4", BUNNY_320),
    "bikes320": ("bikes.mp4", BIKES_320),
    "bunny640": ("bigbuckbunny.mp4", (_CROP, ("scale", "640:320:flags=lanczos"))),
    "bikes640": ("bikes.mp4", (("crop", "640:256"),)),
    "bunny1280": ("bigbuckbunny.mp4", (_CROP,)),
}


def read_clip(
    path: str | Path, filters: Filters = (), limit: int | None = None
) -> tuple[VideoHeader, list[Planes]]:
    """All frames of a clip, through libavfilter when `filters` (name, arguments) are given."""
    if not filters:
        with VideoSource(path, limit=limit) as source:
            return source.header, list(source.frames())
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        chain = [graph.add_buffer(template=stream)]
        chain += [graph.add(name, arguments) for name, arguments in filters]
        chain += [graph.add("format", "yuv420p"), graph.add("buffersink")]
        for a, b in pairwise(chain):
            a.link_to(b)
        graph.configure()
        for frame in islice(container.decode(stream), limit):
            graph.push(frame)
            filtered = graph.pull()
            header = VideoHeader(filtered.width, filtered.height, 1, stream.average_rate)
            frames.append(from_frame(filtered, header))
    return header, frames


def write_libav(
    target: str | Path | io.BytesIO, header: VideoHeader, frames: list[Planes], codec: str,
    options: dict[str, str], muxer: str = "mp4",
) -> None:  # fmt: skip
    """Encodes `frames` with one of libav's encoders."""
    name = target if isinstance(target, io.BytesIO) else str(target)
    with av.open(name, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=header.frame_rate, options=options)
        stream.width, stream.height = header.width, header.height
        stream.pix_fmt = to_frame(header, frames[0]).format.name
        for n, planes in enumerate(frames):
            frame = to_frame(header, planes)
            frame.pts, frame.time_base = n, 1 / header.frame_rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@dataclass
class Anchor:
    """A classical codec's result."""

    bytes: int  # of the raw elementary stream
    decoded: list[Planes]
    encode_seconds: float
    decode_seconds: float


# Elementary streams, so that no container's bytes count against a codec.
MUXERS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "obu"}
_QUIET = {"libx265": {"x265-params": "log-level=none:info=0"}}


def classical(
    codec: str, header: VideoHeader, frames: list[Planes], options: dict[str, str]
) -> Anchor:
    """What one of libav's encoders makes of the frames; `options`: its own (crf, preset ...)."""
    stream = io.BytesIO()
    start = time.monotonic()
    write_libav(stream, header, frames, codec, options | _QUIET.get(codec, {}), MUXERS[codec])
    encoded = time.monotonic()
    size = stream.tell()
    stream.seek(0)
    with av.open(stream, "r", format=MUXERS[codec]) as container:
        decoded = [from_frame(frame, header) for frame in container.decode(video=0)]
    finished = time.monotonic()
    return Anchor(size, decoded, encoded - start, finished - encoded)


def rgb_psnr(header: VideoHeader, source: list[Planes], decoded: list[Planes]) -> float:
    """Mean of the frames' PSNRs in 8-bit RGB, dB; both sides through the same conversion."""
    total = 0.0
    for ours, theirs in zip(source, decoded, strict=True):
        a, b = (
            to_frame(header, planes).reformat(format="rgb24").to_ndarray().astype(np.float64)
            for planes in (ours, theirs)
        )
        total += 10 * math.log10(255**2 / max(float(np.square(a - b).mean()), 1e-10))
    return total / len(source)


def compare(header: VideoHeader, source: list[Planes], decoded: list[Planes]) -> PlaneError:
    """Distortion of a whole clip."""
    error = PlaneError(header.max_sample)
    for ours, theirs in zip(source, decoded, strict=True):
        error.add(ours, theirs)
    return error


def x265(header: VideoHeader, frames: list[Planes], crf: float, preset: str = "slow") -> Anchor:
    """libx265 at a constant rate factor."""
    return classical("libx265", header, frames, {"crf": f"{crf:.3f}", "preset": preset})


def x265_at(header: VideoHeader, frames: list[Planes], size: int, preset: str = "slow") -> Anchor:
    """The best libx265 result that is not larger than `size` bytes, by bisection of the crf."""
    low, high = 0.0, 51.0
    best = x265(header, frames, high, preset)
    for _ in range(7):
        crf = (low + high) / 2
        anchor = x265(header, frames, crf, preset)
        if anchor.bytes <= size:
            best, high = anchor, crf
        else:
            low = crf
    return best

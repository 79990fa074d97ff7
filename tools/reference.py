"""Real clips and classical codecs, for the demo and the measurements in this folder."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import av

from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes
from hnervcodec.syntax import VideoHeader
from hnervcodec.video import VideoSource, from_frame, to_frame

ROOT = Path(__file__).resolve().parent.parent
EXCERPT = ROOT / "tests/data/bunny.mp4"
# libavfilter chains: HNeRV's crop of Big Buck Bunny at 1/16 of its area, and bikes without bars
BUNNY_320 = (("crop", "1280:640"), ("scale", "320:160:flags=lanczos"))
BIKES_320 = (("scale", "320:-2:flags=lanczos"), ("crop", "320:128"))


def read_clip(
    path: str | Path, filters: tuple[tuple[str, str], ...] = (), limit: int | None = None
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
    error: PlaneError


def x265(header: VideoHeader, frames: list[Planes], crf: float, preset: str = "slow") -> Anchor:
    """libx265's size and distortion at a constant rate factor."""
    stream = io.BytesIO()
    parameters = "log-level=none:info=0"
    options = {"crf": f"{crf:.3f}", "preset": preset, "x265-params": parameters}
    write_libav(stream, header, frames, "libx265", options, "hevc")
    size = stream.tell()
    stream.seek(0)
    error = PlaneError(header.max_sample)
    with av.open(stream, "r", format="hevc") as container:
        decoded = [from_frame(frame, header) for frame in container.decode(video=0)]
    for ours, theirs in zip(frames, decoded, strict=True):
        error.add(ours, theirs)
    return Anchor(size, error)


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

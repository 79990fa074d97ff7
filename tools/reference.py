"""Real clips, tables and plots, for the demo and the measurements in this folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.frame import VideoFrame

from hnervcodec.benchmark.csv_rows import to_csv
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.media.frames import from_frame, to_frame
from hnervcodec.media.sinks import Y4mSink
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes
from hnervcodec.system.atomic_files import open_complete_or_absent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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
            filtered = cast(VideoFrame, graph.pull())
            rate = stream.average_rate or Fraction(25)
            header = VideoHeader(filtered.width, filtered.height, 1, rate)
            frames.append(from_frame(filtered, header))
    return header, frames


def write_y4m(path: Path, header: VideoHeader, frames: Iterable[Planes]) -> None:
    """A Y4M file of the frames, under its name when it is complete."""
    with open_complete_or_absent(path) as file:
        sink = Y4mSink(file, header)
        for n, planes in enumerate(frames):
            sink.write(n, planes)


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


def compare(
    header: VideoHeader,
    source: list[Planes],
    decoded: list[Planes],
    hidden: list[Planes] | None = None,
) -> PlaneError:
    """Distortion of a whole clip, but for the samples where `hidden` (bool planes) is True."""
    error = PlaneError(header.max_sample)
    for n, (ours, theirs) in enumerate(zip(source, decoded, strict=True)):
        error.add(ours, theirs, hidden[n] if hidden else None)
    return error


def append(path: Path, rows: Sequence[DataclassInstance]) -> None:
    """More rows for a table that `csv_rows.load` reads. Nothing that is there is written again, as
    several studies may write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_csv(map(asdict, rows))
    if path.exists():
        text = text.split("\n", 1)[1]
    with open(path, "a", newline="") as file:
        file.write(text)

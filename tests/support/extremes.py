"""Writes frames with extreme rates, times, aspects and colour codes in one output format and prints
a line of JSON for each: what was said, and when the frames are shown. A program of its own, so that
a signal ends it and not the tests.

    python extremes.py FORMAT FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from hnervcodec.bitstream.ancillary import Display, SegmentTimes
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.timing import VariableTimes
from hnervcodec.errors import HnervError
from hnervcodec.media.output_formats import CONTAINERS
from hnervcodec.media.outputs import open_file_sink
from hnervcodec.media.presentation import Presentation, constant
from hnervcodec.planes import plane_shapes

LAST = (1 << 32) - 1
PLAIN = VideoHeader(32, 16, 1, Fraction(25), frame_count=3)
Case = tuple[str, VideoHeader, SegmentTimes | None]


def cases() -> Iterator[Case]:
    rates = [(1, LAST), (LAST, 1), (LAST, LAST - 1), (LAST, 178956971), (1, 1 << 31), (2000, 1)]
    rates += [((1 << 31) - 1, 1), (1, (1 << 31) - 1), (1, 200000), (1, 700)]
    for rate in rates:
        yield f"rate {rate}", replace(PLAIN, frame_rate=Fraction(*rate)), None
    bases = [(1, LAST), (LAST, 1), (1, 1 << 31), (LAST, LAST - 1), (1 << 31, 3), (1, 10**9)]
    durations = [(1, 1, 1), (1 << 32,) * 3, (3003, 1, 1 << 32), (5 << 27, 10**8, 1)]
    for base in bases:
        for lengths in durations:
            yield f"base {base} {lengths}", PLAIN, SegmentTimes(Fraction(*base), 0, lengths)
    for first in (-7, 1 << 52, -(1 << 52)):
        for base in ((1, 90000), (LAST, 1)):
            times = SegmentTimes(Fraction(*base), first, (3000, 3000, 3000))
            yield f"first {first} base {base}", PLAIN, times
    for aspect in ((1, 65535), (65535, 1), (65535, 65534)):
        yield f"aspect {aspect}", replace(PLAIN, sample_aspect=aspect), None
    for code in (0, 3, 10, 22, 23, 100, 255):
        for element in ("colour_primaries", "transfer_characteristics", "matrix_coefficients"):
            for chroma, depth in ((1, 8), (3, 10)):
                fields: Any = {element: code, "chroma_format": chroma, "bit_depth": depth}
                yield f"{element} {code} {chroma} {depth}", replace(PLAIN, **fields), None


def presentation(header: VideoHeader, times: SegmentTimes | None) -> Presentation:
    if times is None:
        return constant(header.frame_rate, Display())
    variable = VariableTimes.of([times])
    stamps = list(zip(variable.ticks, variable.durations, strict=False))
    return Presentation(times.time_base, stamps, False)


def write(case: Case, name: str, path: Path) -> dict[str, Any]:
    what, header, times = case
    dtype = np.uint8 if header.bit_depth == 8 else np.uint16
    shapes = plane_shapes(header.width, header.height, header.chroma_format)
    planes = tuple(np.full(shape, 100, dtype) for shape in shapes)
    shown = presentation(header, times)
    wanted = [
        str(pts * shown.time_base)
        for pts in (range(3) if times is None else [pts for pts, _ in shown.stamps])
    ]
    words = ["-preset", "ultrafast"] if name in ("mp4", "mov") else []
    words = ["-preset", "13"] if name == "webm" else words
    try:
        with open_file_sink(str(path), name, header, shown, words) as sink:
            notes = list(sink.notes)
            for index in range(3):
                sink.write(index, planes)
    except HnervError as error:
        return {"what": what, "error": str(error)}
    found = None
    if name in CONTAINERS:
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        times_found = [
            packet.pts * packet.time_base for packet in packets if packet.pts is not None
        ]
        found = [str(at) for at in sorted(times_found)]
    return {"what": what, "notes": notes, "wanted": wanted, "found": found}


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    path = Path(folder) / ("%d.png" if name == "png" else f"x.{name}")
    for case in cases():
        print(case[0], file=sys.stderr, flush=True)  # the last one that was begun
        print(json.dumps(write(case, name, path)), flush=True)

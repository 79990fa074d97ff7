#!/usr/bin/env python3
"""Compares a .hnv file with x265 at the same size: PSNRs of both, by hnervcodec's own metrics.

    .venv/bin/python tools/examples/compare_x265.py [SOURCE FILE.hnv]

SOURCE is what FILE.hnv was made from. Without arguments it encodes a few frames of
tests/data/bunny.mp4 first, in seconds, so that x265 wins by far.
"""

import io
import sys
import tempfile
from pathlib import Path

import av

from hnervcodec import Decoder, encode
from hnervcodec.libav import from_frame, to_frame
from hnervcodec.metrics import PlaneError
from hnervcodec.video import VideoSource

EXCERPT = Path(__file__).resolve().parents[2] / "tests/data/bunny.mp4"
QUIET = "log-level=none:info=0"  # and without the text that x265 puts into its stream


def x265(header, frames, crf: float):
    """(bytes of the elementary stream, decoded planes) at a constant rate factor."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="hevc") as container:
        options = {"crf": str(crf), "preset": "slow", "x265-params": QUIET}
        video = container.add_stream("libx265", rate=header.frame_rate, options=options)
        video.width, video.height = header.width, header.height
        video.pix_fmt = to_frame(header, frames[0]).format.name
        for planes in frames:
            container.mux(video.encode(to_frame(header, planes)))
        container.mux(video.encode())
    size = stream.tell()
    stream.seek(0)
    with av.open(stream, "r", format="hevc") as container:
        return size, [from_frame(frame, header) for frame in container.decode(video=0)]


def x265_of_size(header, frames, size: int):
    """The best that is not larger than `size`, by bisection of the rate factor."""
    low, high, best = 0.0, 51.0, x265(header, frames, 51.0)
    for _ in range(6):
        crf = (low + high) / 2
        made = x265(header, frames, crf)
        if made[0] <= size:
            best, high = made, crf
        else:
            low = crf
    return best


def report(name: str, header, size: int, frames, decoded) -> None:
    error = PlaneError(header.max_sample)
    for reference, distorted in zip(frames, decoded, strict=True):
        error.add(reference, distorted)
    luma, weighted = error.per_plane[0], error.weighted
    print(f"{name:5} {size:9,} bytes  PSNR {luma:.2f} dB of Y, {weighted:.2f} dB at 6:1:1")


def compare(source: str | Path, file: str) -> None:
    with Decoder(file) as decoder:
        header, size = decoder.video, decoder.reader.size
        ours = [planes for _, planes in decoder.frames(range(len(decoder)))]
    with VideoSource(source, limit=len(ours)) as video:
        frames = list(video.frames())
    report("hnv", header, size, frames, ours)
    size, theirs = x265_of_size(header, frames, size)
    report("x265", header, size, frames, theirs)


if __name__ == "__main__":
    if sys.argv[1:]:
        compare(*sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/bunny.hnv"
            encode(EXCERPT, path, bpp=0.1, preset="faster", limit=8, segment=12)
            compare(EXCERPT, path)
